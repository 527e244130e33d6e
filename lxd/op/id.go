package op

import (
	"encoding/binary"

	"github.com/google/uuid"
)

// The id of an operation tells which member runs it: its last three bytes are the
// member's row in the database. So any member finds the right one to ask, and the
// database need not hear of operations. The rest is random; the version is 8, the one
// for UUIDs with a meaning of their own.
//
//	xxxxxxxx-xxxx-8xxx-yxxx-xxxxxxmmmmmm
func (m *Manager) newID() string {
	id := uuid.New()
	id[6] = id[6]&0x0f | 8<<4
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(m.member()))
	copy(id[13:], b[1:])
	return id.String()
}

// MemberOf tells which member runs the operation with an id, by the member's own id;
// 0 for what is no such id.
func MemberOf(id string) int64 {
	u, err := uuid.Parse(id)
	if err != nil || u.Version() != 8 {
		return 0
	}
	return int64(u[13])<<16 | int64(u[14])<<8 | int64(u[15])
}
