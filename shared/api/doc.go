// Package api holds the requests and answers of the REST API and nothing else.
//
// Names, JSON keys, YAML keys and the order of the fields are those of LXD 5.0,
// because clients decode them and people read them; golden tests hold them. Nil
// slices and maps become null on the wire and empty ones [] or {}: the difference
// is part of the API. The package imports the standard library only, so that any
// program can use it.
package api
