// Package console shows clients of the API the console of an instance: live over
// websockets, and what it printed before as a log.
//
// Each viewer is an operation, and an instance has one viewer at a time. Viewers
// come and go; the instance notices nothing of it.
package console
