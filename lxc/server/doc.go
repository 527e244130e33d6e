// Package server holds the commands about a server as a whole: monitor, query
// and version.
package server
