// Package lock holds named locks: who works on a thing keeps others off it.
//
// A key is any comparable value (a string, an entity reference). Several keys are
// taken in one call, in an order of their own, so that two callers that want the
// same things never wait for each other. Every holder says what it does; those who
// are turned away are told.
//
// It must not know what the keys stand for, and holds for this process only.
package lock
