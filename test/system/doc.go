// Package system tests the real thing: the built programs, liblxc, btrfs, bridges
// and name spaces, through the command line as users do.
//
// All of it is behind the build tag "system" and needs root; 'make test' runs it.
// Each test starts a daemon in a folder of its own (see harness_test.go) and each
// ends by looking for anything that the daemon has left on the host
// (leftovers_test.go). Names of instances and bridges carry a token, so that tests,
// a developer's own daemon and a production one share a host without meeting.
package system
