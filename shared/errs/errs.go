package errs

import (
	"errors"
	"fmt"
	"net/http"
)

// Kind says what sort of failure an error is. The zero value is Internal.
type Kind int

// The kinds, each with the HTTP status that it becomes.
const (
	KindInternal       Kind = iota // 500: a bug or a failing host
	KindInvalid                    // 400: the request cannot be right
	KindForbidden                  // 403: the caller may not
	KindNotFound                   // 404: the thing is not there
	KindConflict                   // 409: the thing is there already
	KindPrecondition               // 412: the ETag does not match
	KindTooLarge                   // 413: the body exceeds its limit
	KindNotImplemented             // 501: known, but not built
	KindUnavailable                // 503: not now (starting, stopping, no quorum)
	KindUnauthorized               // 401
)

var status = map[Kind]int{
	KindInternal:       http.StatusInternalServerError,
	KindInvalid:        http.StatusBadRequest,
	KindForbidden:      http.StatusForbidden,
	KindNotFound:       http.StatusNotFound,
	KindConflict:       http.StatusConflict,
	KindPrecondition:   http.StatusPreconditionFailed,
	KindTooLarge:       http.StatusRequestEntityTooLarge,
	KindNotImplemented: http.StatusNotImplemented,
	KindUnavailable:    http.StatusServiceUnavailable,
	KindUnauthorized:   http.StatusUnauthorized,
}

// Error is an error of a known kind.
type Error struct {
	Kind Kind
	Err  error // what happened; never nil
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

func newf(k Kind, format string, args []any) error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

// Invalid is for requests that cannot be right as they stand (400).
func Invalid(format string, args ...any) error { return newf(KindInvalid, format, args) }

// Forbidden is for callers who may not do what they ask (403).
func Forbidden(format string, args ...any) error { return newf(KindForbidden, format, args) }

// Unauthorized is for callers who must log in first (401).
func Unauthorized(format string, args ...any) error { return newf(KindUnauthorized, format, args) }

// NotFound is for things that are not there (404).
func NotFound(format string, args ...any) error { return newf(KindNotFound, format, args) }

// Conflict is for things that are there already (409).
func Conflict(format string, args ...any) error { return newf(KindConflict, format, args) }

// Precondition is for a stale ETag (412).
func Precondition(format string, args ...any) error { return newf(KindPrecondition, format, args) }

// TooLarge is for bodies over their limit (413).
func TooLarge(format string, args ...any) error { return newf(KindTooLarge, format, args) }

// NotImplemented is for what the API knows and this build lacks (501).
func NotImplemented(format string, args ...any) error {
	return newf(KindNotImplemented, format, args)
}

// Unavailable is for what may work later (503).
func Unavailable(format string, args ...any) error { return newf(KindUnavailable, format, args) }

// Internal is for failures of the host or of this program (500).
func Internal(format string, args ...any) error { return newf(KindInternal, format, args) }

// Wrap gives err a kind and keeps it as the cause. A nil err stays nil.
func Wrap(k Kind, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: k, Err: err}
}

// KindOf returns the kind of the outermost Error in err's chain.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}

// Is reports whether err is of kind k.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }

// Status returns the HTTP status for err.
func Status(err error) int { return status[KindOf(err)] }

// FromStatus makes the error that a client sees for an HTTP status.
func FromStatus(code int, text string) error {
	for k, c := range status {
		if c == code {
			return &Error{Kind: k, Err: errors.New(text)}
		}
	}
	return &Error{Kind: KindInternal, Err: errors.New(text)}
}
