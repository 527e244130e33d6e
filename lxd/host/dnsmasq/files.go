package dnsmasq

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Host is a device that the server knows.
type Host struct {
	File       string // names its file, INSTANCE.DEVICE
	HWAddr     string
	IPv4, IPv6 netip.Addr // fixed, or invalid
	Name       string     // for DNS, or ""
}

// Lease is an address that the server gave out.
type Lease struct {
	Expires time.Time // zero: never
	HWAddr  string
	Address netip.Addr
	Name    string
	// ClientID is what an IPv4 client calls itself, in hexadecimal, or "".
	ClientID string
}

// WriteHost stores a device; Reload makes the server see it.
func WriteHost(dir string, h Host) error {
	d := filepath.Join(dir, hostsName)
	if err := os.MkdirAll(d, 0o755); err != nil {
		return err
	}
	fields := []string{h.HWAddr}
	if h.IPv4.IsValid() {
		fields = append(fields, h.IPv4.String())
	}
	if h.IPv6.IsValid() {
		fields = append(fields, "["+h.IPv6.String()+"]")
	}
	if h.Name != "" {
		fields = append(fields, h.Name)
	}
	// Beside the folder, because the server reads every file in it.
	tmp, err := os.CreateTemp(dir, ".host")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(strings.Join(fields, ",") + "\n")
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), filepath.Join(d, h.File))
}

// RemoveHost forgets a device. One that is not known is no error.
func RemoveHost(dir, file string) error {
	err := os.Remove(filepath.Join(dir, hostsName, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Hosts reads all devices, by file name.
func Hosts(dir string) ([]Host, error) {
	es, err := os.ReadDir(filepath.Join(dir, hostsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Host
	for _, e := range es {
		b, err := os.ReadFile(filepath.Join(dir, hostsName, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, parseHost(e.Name(), strings.TrimSpace(string(b))))
	}
	return out, nil
}

func parseHost(file, line string) Host {
	h := Host{File: file}
	for i, f := range strings.Split(line, ",") {
		a, err := netip.ParseAddr(strings.Trim(f, "[]"))
		switch {
		case i == 0:
			h.HWAddr = f
		case err != nil:
			h.Name = f
		case a.Is4():
			h.IPv4 = a
		default:
			h.IPv6 = a
		}
	}
	return h
}

// Leases reads what the server gave out and what has not expired.
func Leases(dir string, now time.Time) ([]Lease, error) {
	b, err := os.ReadFile(filepath.Join(dir, leasesName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Lease
	for _, line := range strings.Split(string(b), "\n") {
		if l, ok := parseLease(line); ok && (l.Expires.IsZero() || l.Expires.After(now)) {
			out = append(out, l)
		}
	}
	return out, nil
}

// parseLease reads "EXPIRY MAC ADDRESS NAME CLIENT" and, for IPv6, "EXPIRY IAID
// ADDRESS NAME DUID". Of a DUID made from a MAC address, that is its end.
func parseLease(line string) (Lease, bool) {
	f := strings.Fields(line)
	if len(f) < 5 {
		return Lease{}, false
	}
	a, err := netip.ParseAddr(f[2])
	if err != nil {
		return Lease{}, false
	}
	secs, err := strconv.ParseInt(f[0], 10, 64)
	if err != nil {
		return Lease{}, false
	}
	l := Lease{HWAddr: f[1], Address: a, Name: f[3]}
	if secs > 0 {
		l.Expires = time.Unix(secs, 0)
	}
	if l.Name == "*" {
		l.Name = ""
	}
	if a.Is4() && f[4] != "*" {
		l.ClientID = f[4]
	}
	if a.Is6() {
		l.HWAddr = ""
		if d := f[4]; len(d) >= 17 {
			l.HWAddr = d[len(d)-17:]
		}
	}
	return l, true
}
