// Package config declares configuration keys and everything that follows from a
// declaration: parsing, defaults, checks, differences, redaction, documentation.
//
// The stored form is always map[string]string. A typed key reads from it:
//
//	var ShutdownTimeout = config.Duration("boot.host_shutdown_timeout", 30*time.Second,
//		config.Doc("How long a clean shutdown may take"))
//	...
//	d := ShutdownTimeout.Get(values)
//
// and a Table of keys validates a whole map.
package config
