// Package instance is about instances: system containers with their
// configuration, devices, root volumes and running processes.
//
// Rules: an instance takes its profiles in order, its own keys win; what is stored
// is always valid; states change only along the table in state.go; one thing at a
// time changes an instance, and a refusal names what holds it. Tables owned:
// instances and all instances_*.
//
// Making, starting and stopping are lists of steps, one file each, that push their
// undo. What a kill of the daemon leaves half-done is finished or taken back when
// it starts again (recover.go).
package instance
