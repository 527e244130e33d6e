// Package peer tells who is at the other end of a unix socket, and in which container.
//
// Process ids are reused, command lines and parents are what their owner makes them
// to be. A pid namespace is not: the kernel lets a process into a namespace below its
// own only, never out of it. So a process belongs to a container when the namespace of
// the container's init is its own or above it.
package peer
