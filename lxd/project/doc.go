// Package project is about projects: names spaces with features, in which
// instances, images, profiles and volumes live.
//
// Rules: the default project always exists, has every feature, and can neither be
// renamed nor deleted. Tables owned: projects, projects_config. So far projects
// can be read; making more of them comes with their restrictions.
package project
