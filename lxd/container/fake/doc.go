// Package fake is an engine without a kernel: containers live in memory, their
// commands are Go functions, and every step can be made to fail. It passes the
// same suite as the real engine, so what is built on it holds there too.
package fake
