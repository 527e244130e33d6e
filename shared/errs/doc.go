// Package errs holds the kinds of error that cross package borders.
//
// A kind is picked once, where the cause is known; every layer above may wrap
// the error with what it was doing. The REST layer turns the kind into an HTTP
// status in one place, and the client turns the status back into a kind.
package errs
