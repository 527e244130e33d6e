// Package version holds the numbers that programs show and servers announce.
package version

// Version is the release of LXD whose API and command line this program speaks.
// Scripts compare it, so it is what --version and server_version tell.
const Version = "5.0.2"

// Sett is the release of this program.
const Sett = "0.1.0"

// API is the version of the REST API, the first element of its paths.
const API = "1.0"

// UserAgent is what clients call themselves.
const UserAgent = "LXD " + Version + " (Sett " + Sett + ")"
