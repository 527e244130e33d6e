// Package daemon is the composition root: it builds everything, starts it in order
// and stops it in reverse. It is the only package that sees all others; nothing
// imports it but main, the administration verbs and the tests of the whole.
package daemon
