package idmap

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func TestCapabilitiesFollowTheGuestsRoot(t *testing.T) {
	t.Parallel()
	m := Map{{UID: true, GID: true, HostID: 1000000, Range: 65536}}
	up, down := Shifter{To: m}, Shifter{From: m}
	plain := append(binary.LittleEndian.AppendUint32(nil, 0x02000001), make([]byte, 16)...)
	ours := up.Caps(bytes.Clone(plain))
	if len(ours) != 24 || binary.LittleEndian.Uint32(ours) != 0x03000001 || binary.LittleEndian.Uint32(ours[20:]) != 1000000 {
		t.Errorf("up: %x", ours)
	}
	if back := down.Caps(ours); !bytes.Equal(back, plain) {
		t.Errorf("down: %x", back)
	}
}

func TestACLsShiftTheirIdsOnly(t *testing.T) {
	t.Parallel()
	m := Map{{UID: true, GID: true, HostID: 1000000, Range: 65536}}
	entry := func(tag uint16, id uint32) []byte {
		return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, tag), 7), id)
	}
	none := ^uint32(0)
	acl := append([]byte{2, 0, 0, 0}, bytes.Join([][]byte{entry(1, none), entry(2, 5), entry(4, none), entry(8, 6), entry(16, none), entry(32, none)}, nil)...)
	want := append([]byte{2, 0, 0, 0}, bytes.Join([][]byte{entry(1, none), entry(2, 1000005), entry(4, none), entry(8, 1000006), entry(16, none), entry(32, none)}, nil)...)
	if !(Shifter{To: m}).ACL(acl) || !bytes.Equal(acl, want) {
		t.Errorf("%x", acl)
	}
}
