package dnsmasq

import (
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sett/shared/errs"
)

func TestHostFilesAreReadBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := []Host{
		{File: "a.eth0", HWAddr: "00:16:3e:01:02:03", Name: "a"},
		{File: "b.eth0", HWAddr: "00:16:3e:01:02:04", IPv4: netip.MustParseAddr("10.0.0.4"), IPv6: netip.MustParseAddr("fd42::4"), Name: "b"},
		{File: "p_c.eth0", HWAddr: "00:16:3e:01:02:05", IPv4: netip.MustParseAddr("10.0.0.5")},
	}
	for _, h := range want {
		if err := WriteHost(dir, h); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Hosts(dir)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "dnsmasq.hosts", "b.eth0"))
	if err != nil || string(b) != "00:16:3e:01:02:04,10.0.0.4,[fd42::4],b\n" {
		t.Errorf("%q, %v", b, err)
	}
	for range 2 {
		if err := RemoveHost(dir, "b.eth0"); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := Hosts(dir); len(got) != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestLeasesAreParsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Unix(1000, 0)
	text := "2000 00:16:3e:01:02:03 10.0.0.2 c1 ff:00\n" +
		"500 00:16:3e:01:02:04 10.0.0.3 old *\n" +
		"0 00:16:3e:01:02:05 10.0.0.4 * *\n" +
		"duid 00:01:00:01:2c:00:00:00:00:16:3e:00:00:01\n" +
		"2000 12345 fd42::9 c1 00:03:00:01:00:16:3e:01:02:03\n" +
		"garbage\n2000 x not-an-address c1 *\n"
	if err := os.WriteFile(filepath.Join(dir, leasesName), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := Leases(dir, now)
	want := []Lease{
		{Expires: time.Unix(2000, 0), HWAddr: "00:16:3e:01:02:03", Address: netip.MustParseAddr("10.0.0.2"), Name: "c1", ClientID: "ff:00"},
		{HWAddr: "00:16:3e:01:02:05", Address: netip.MustParseAddr("10.0.0.4")},
		{Expires: time.Unix(2000, 0), HWAddr: "00:16:3e:01:02:03", Address: netip.MustParseAddr("fd42::9"), Name: "c1"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := Leases(t.TempDir(), now); err != nil || got != nil {
		t.Errorf("no file: %v, %v", got, err)
	}
}

func TestOptionsThatWouldTakeTheServerAwayAreRefused(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"no-daemon", " keep-in-foreground", "log-queries\nuser = root", "pid-file=/tmp/x"} {
		if err := Test(t.Context(), raw); !errs.Is(err, errs.KindInvalid) {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

func TestArgumentsIdentifyAServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if p := find(dir, nil); p != nil {
		t.Error("found a server without a pid file")
	}
	for _, text := range []string{"x", "-1", "0", "999999999"} {
		if err := os.WriteFile(filepath.Join(dir, pidName), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if p := find(dir, nil); p != nil {
			t.Errorf("pid file %q gave a process", text)
		}
	}
}

func TestReleasesSpeakForTheClient(t *testing.T) {
	t.Parallel()
	server := netip.MustParseAddr("10.0.0.1")
	l := Lease{HWAddr: "00:16:3e:01:02:03", Address: netip.MustParseAddr("10.0.0.2"), ClientID: "ff:00:01"}
	p, err := releasePacket(server, l)
	if err != nil {
		t.Fatal(err)
	}
	want := "010106006e6e6e6e" + "00000000" + "0a000002" + strings.Repeat("00", 12) + "00163e010203" + strings.Repeat("00", 10+192) +
		"63825363" + "350107" + "36040a000001" + "3d03ff0001" + "ff"
	if got := hex.EncodeToString(p[:4]) + "6e6e6e6e" + hex.EncodeToString(p[8:]); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, bad := range []Lease{{HWAddr: "x", Address: l.Address}, {HWAddr: l.HWAddr}, {HWAddr: l.HWAddr, Address: netip.MustParseAddr("fd42::2")}} {
		if _, err := releasePacket(server, bad); err == nil {
			t.Errorf("%+v has a packet", bad)
		}
	}
}
