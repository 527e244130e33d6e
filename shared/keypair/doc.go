// Package keypair makes, stores and reads certificates with their private keys:
// the server's, a cluster's, a client's.
//
// All are signed by themselves. Nobody vouches for them: they are known by their
// fingerprint, or not at all.
package keypair
