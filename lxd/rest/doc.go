// Package rest is the HTTP kit: routes as data, the one chain that every request
// walks, the envelope, ETags, recursion, filters.
//
// A handler gets a Request whose caller, project and reference only the chain can
// fill in, and returns a Response. It never sees net/http unless it upgrades the
// connection or streams a file.
//
// The chain, in order: request id and panic guard, route look-up, gate,
// authentication, project, authorisation, forwarding, handler, encoding.
package rest
