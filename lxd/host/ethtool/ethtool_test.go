package ethtool

import (
	"encoding/binary"
	"reflect"
	"testing"

	"sett/lxd/host/sysinfo"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	b := question(getSettings, 44)
	binary.NativeEndian.PutUint32(b[4:], 1<<5|1<<7|1<<13)
	binary.NativeEndian.PutUint16(b[12:], 34464) // with the next: 100000
	binary.NativeEndian.PutUint16(b[28:], 1)
	b[14], b[15], b[17], b[18] = 1, 3, 1, 1
	l := sysinfo.Link{Detected: true}
	settings(b, &l)
	want := sysinfo.Link{Detected: true, Modes: []string{"1000baseT/Full"}, Ports: []string{"twisted pair"}, Port: "fibre",
		Transceiver: "external", Duplex: "full", AutoNegotiation: true, SpeedMbit: 100000}
	if !reflect.DeepEqual(l, want) {
		t.Errorf("got %+v, want %+v", l, want)
	}
	binary.NativeEndian.PutUint16(b[12:], 0xffff)
	binary.NativeEndian.PutUint16(b[28:], 0xffff)
	l = sysinfo.Link{Detected: true}
	if settings(b, &l); l.SpeedMbit != 0 || l.Duplex != "" {
		t.Errorf("an unknown speed became %+v", l)
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	b := question(getAddress, 40)
	for _, n := range []uint32{0, 6, 33, 1 << 31} {
		binary.NativeEndian.PutUint32(b[4:], n)
		if a := address(b); a != "" {
			t.Errorf("length %d: %q", n, a)
		}
	}
	binary.NativeEndian.PutUint32(b[4:], 6)
	b[8], b[13] = 2, 9
	if a := address(b); a != "02:00:00:00:00:09" {
		t.Errorf("got %q", a)
	}
}

func TestNoSuchInterface(t *testing.T) {
	t.Parallel()
	if l, ok := Read("no-such-name-anywhere"); ok {
		t.Errorf("got %+v", l)
	}
}
