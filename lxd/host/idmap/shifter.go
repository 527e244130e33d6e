package idmap

import "encoding/binary"

// Shifter turns ids of one map into those of another, wherever files keep them. An
// empty map stands for the guest's own ids. Ids that the first map lacks stay.
type Shifter struct{ From, To Map }

// UID is a user id in the new map.
func (s Shifter) UID(id uint32) uint32 { return s.id(id, s.From.GuestUID, s.To.HostUID) }

// GID is a group id in the new map.
func (s Shifter) GID(id uint32) uint32 { return s.id(id, s.From.GuestGID, s.To.HostGID) }

func (s Shifter) id(id uint32, in, out func(int64) (int64, bool)) uint32 {
	guest, ok := in(int64(id))
	if !ok {
		return id
	}
	host, ok := out(guest)
	if !ok {
		return id
	}
	return uint32(host)
}

// The tags of entries of an ACL that have an id.
const (
	aclUser  = 2
	aclGroup = 8
)

// ACL changes the ids of an ACL as the kernel's xattr has it: a header of 4 bytes,
// then entries of tag (2), permissions (2) and id (4). It reports whether any id
// changed.
func (s Shifter) ACL(acl []byte) bool {
	le, changed := binary.LittleEndian, false
	for i := 4; i+8 <= len(acl); i += 8 {
		id := le.Uint32(acl[i+4:])
		now := id
		switch le.Uint16(acl[i:]) {
		case aclUser:
			now = s.UID(id)
		case aclGroup:
			now = s.GID(id)
		}
		if now != id {
			le.PutUint32(acl[i+4:], now)
			changed = true
		}
	}
	return changed
}

// Caps changes whose root a file's capabilities count for. Version 2 means the host's
// and is 20 bytes long; version 3 names a root in 4 more.
func (s Shifter) Caps(caps []byte) []byte {
	const v2, v3, versionMask = 0x02000000, 0x03000000, 0xff000000
	le := binary.LittleEndian
	if len(caps) < 20 {
		return caps
	}
	head, root := le.Uint32(caps), uint32(0)
	if head&versionMask == v3 && len(caps) >= 24 {
		root = le.Uint32(caps[20:])
	} else if head&versionMask != v2 {
		return caps
	}
	now := s.UID(root)
	out := append([]byte(nil), caps[:20]...)
	if now == 0 {
		le.PutUint32(out, head&^uint32(versionMask)|v2)
		return out
	}
	le.PutUint32(out, head&^uint32(versionMask)|v3)
	return le.AppendUint32(out, now)
}
