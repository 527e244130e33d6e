// Package doc holds the documentation, and the tests that keep it true.
package doc
