package driver

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// Explain turns the kernel's words for a full pool into a sentence for users.
func Explain(err error) error {
	if errors.Is(err, unix.ENOSPC) || err != nil && strings.Contains(err.Error(), "No space left on device") {
		return fullError{"The storage pool is full; free some space or make it larger", err}
	}
	if errors.Is(err, unix.EDQUOT) || err != nil && strings.Contains(err.Error(), "Disk quota exceeded") {
		return fullError{"The content is larger than the volume's size limit", err}
	}
	return err
}

type fullError struct {
	text  string
	cause error
}

func (e fullError) Error() string { return e.text }

func (e fullError) Unwrap() error { return e.cause }
