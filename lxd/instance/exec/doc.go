// Package exec runs commands inside instances for clients of the API: with a
// terminal or with pipes over websockets, or on their own.
//
// Each session is an operation. Its websockets carry the streams: binary frames are
// data, an empty text frame is the end of a stream. The command is killed when its
// client goes.
package exec
