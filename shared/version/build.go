package version

// Build names the commit that a program was built from. The Makefile stamps it
// into lxd and lxc; it is empty in programs that were built without it.
var Build string
