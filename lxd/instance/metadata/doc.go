// Package metadata answers for the metadata.yaml of an instance and the templates
// that it names: /1.0/instances/{name}/metadata and what lies below. The rules are
// those of package template.
package metadata
