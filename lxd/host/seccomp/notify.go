package seccomp

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Sizes of what the kernel says and hears, as struct seccomp_notif and
// seccomp_notif_resp are laid out.
const (
	NotificationSize = 80
	AnswerSize       = 24
)

// Notification is a system call that waits for its answer.
type Notification struct {
	ID   uint64 // of this call, never used again
	TID  int    // the thread that calls, as this process sees it
	Nr   int
	Arch uint32
	Args [6]uint64
}

// ParseNotification reads what SECCOMP_IOCTL_NOTIF_RECV gives.
func ParseNotification(b []byte) (Notification, error) {
	if len(b) < NotificationSize {
		return Notification{}, fmt.Errorf("notification of %d bytes", len(b))
	}
	le := binary.LittleEndian
	n := Notification{ID: le.Uint64(b), TID: int(le.Uint32(b[8:])), Nr: int(int32(le.Uint32(b[16:]))), Arch: le.Uint32(b[20:])}
	for i := range n.Args {
		n.Args[i] = le.Uint64(b[32+8*i:])
	}
	if n.TID <= 0 || n.TID > math.MaxInt32 {
		return n, fmt.Errorf("notification of process %d, which this one cannot see", n.TID)
	}
	return n, nil
}

// Bytes is what ParseNotification reads, as far as it reads it.
func (n Notification) Bytes() []byte {
	le := binary.LittleEndian
	b := le.AppendUint64(make([]byte, 0, NotificationSize), n.ID)
	b = le.AppendUint32(b, uint32(n.TID))
	b = le.AppendUint32(b, 0)
	b = le.AppendUint32(b, uint32(int32(n.Nr)))
	b = le.AppendUint32(b, n.Arch)
	b = le.AppendUint64(b, 0)
	for _, a := range n.Args {
		b = le.AppendUint64(b, a)
	}
	return b
}

// Answer is how a call ends.
type Answer struct {
	Errno    int  // zero: with success
	Continue bool // the kernel does what it would have done without us
}

// Bytes is what SECCOMP_IOCTL_NOTIF_SEND takes.
func (a Answer) Bytes(id uint64) []byte {
	le := binary.LittleEndian
	b := le.AppendUint64(make([]byte, 0, AnswerSize), id)
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, uint32(int32(-a.Errno)))
	flags := uint32(0)
	if a.Continue {
		flags = 1
		clear(b[8:])
	}
	return le.AppendUint32(b, flags)
}
