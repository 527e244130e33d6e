// Package validate checks and reads values as users write them. Every function
// returns one plain sentence when a value cannot be right.
package validate
