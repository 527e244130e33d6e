package sysinfo_test

import (
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"sett/lxd/host/sysinfo"
)

func TestThisMachine(t *testing.T) {
	t.Parallel()
	r, err := sysinfo.Host{}.Read("x86_64")
	if err != nil {
		t.Fatal(err)
	}
	if r.CPU.Total < uint64(runtime.NumCPU()) || len(r.CPU.Sockets) == 0 || len(r.CPU.Sockets[0].Cores) == 0 {
		t.Errorf("processors: %+v", r.CPU)
	}
	if r.Memory.Total < 1<<20 || r.Memory.Used > r.Memory.Total {
		t.Errorf("memory: %+v", r.Memory)
	}
}

var update = flag.Bool("update", false, "write the golden files")

// build makes the machine of testdata/machine.txt: "path = text", "path -> link" and
// "path /" for folders. A text file, because names with colons cannot be in a module.
func build(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	b, err := os.ReadFile("testdata/machine.txt")
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for l := range strings.Lines(string(b)) {
		l = strings.TrimSuffix(l, "\n")
		name, rest, ok := strings.Cut(l, " ")
		if !ok || strings.HasPrefix(l, "#") {
			continue
		}
		kind, value, _ := strings.Cut(rest, " ")
		p := filepath.Join(root, name)
		must(os.MkdirAll(filepath.Dir(p), 0o700))
		switch kind {
		case "/":
			must(os.MkdirAll(p, 0o700))
		case "->":
			must(os.Symlink(value, p))
		case "=":
			must(os.WriteFile(p, raw(value), 0o600))
		}
	}
	return root
}

// raw undoes \n, \t and \x41; other escapes are the file's own.
func raw(s string) []byte {
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			switch s[i+1] {
			case 'n':
				out, i = append(out, '\n'), i+1
				continue
			case 't':
				out, i = append(out, '\t'), i+1
				continue
			case 'x':
				if n, err := strconv.ParseUint(s[i+2:min(i+4, len(s))], 16, 8); err == nil {
					out, i = append(out, byte(n)), i+3
					continue
				}
			}
		}
		out = append(out, s[i])
	}
	return out
}

// The golden file agrees with LXD 5.0.2 on the same tree, but for: block sizes (LXD
// opens the disks), the USB address of a graphics card (LXD misses it), and that
// machine's kernel version and kind.
func TestMadeUpMachine(t *testing.T) {
	t.Parallel()
	r, err := sysinfo.Host{Root: build(t)}.Read("x86_64")
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile("testdata/machine.json", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/machine.json")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("differs from testdata/machine.json; got %s", got)
	}
}

func TestLinkFillsThePort(t *testing.T) {
	t.Parallel()
	asked := map[string]bool{}
	h := sysinfo.Host{Root: build(t), Link: func(n string) (sysinfo.Link, bool) {
		asked[n] = true
		return sysinfo.Link{Address: "aa", Firmware: "f1", Port: "fibre", SpeedMbit: 10, Detected: true}, n == "enp5s0a"
	}}
	r, err := h.Read("x86_64")
	if err != nil {
		t.Fatal(err)
	}
	c := r.Network.Cards[0]
	if c.FirmwareVersion != "f1" || c.Ports[0].Address != "aa" || c.Ports[0].PortType != "fibre" || !c.Ports[0].LinkDetected || c.Ports[1].PortType != "" {
		t.Errorf("card: %+v", c)
	}
	if asked["enp5s0v0"] || asked["lo"] {
		t.Errorf("asked the drivers of %v", asked)
	}
}

// Every file is replaced in turn by nothing, by a folder and by rubbish of a device's choosing.
func TestHostileFilesDoNoHarm(t *testing.T) {
	t.Parallel()
	rubbish := []string{"", "-1", "18446744073709551615", "99999999999999999999999", "NaN", "+Inf", "0-65535,7-3,x", "\xff\xfe\x00\x1b[31m", "E:=\nE:\\x\n:\n:::", strings.Repeat("A", 200<<10), "\x90\xff\xff", "\x90\x05\x00PN\xffx"}
	for i, text := range rubbish {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			root := build(t)
			err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() {
					err = os.WriteFile(p, []byte(text), 0o600)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			r, err := sysinfo.Host{Root: root}.Read("x86_64")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := json.Marshal(r); err != nil {
				t.Error(err)
			}
			if r.Memory.Used > r.Memory.Total {
				t.Errorf("memory: %+v", r.Memory)
			}
		})
	}
}

func TestMissingFoldersAreASmallerMachine(t *testing.T) {
	t.Parallel()
	for _, gone := range []string{"sys/class", "sys/bus", "sys/devices/pci0000:00", "sys/devices/system/node", "sys/devices/system/memory", "proc/cpuinfo", "dev", "run", "usr"} {
		t.Run(strings.ReplaceAll(gone, "/", "-"), func(t *testing.T) {
			t.Parallel()
			root := build(t)
			if err := os.RemoveAll(filepath.Join(root, gone)); err != nil {
				t.Fatal(err)
			}
			r, err := sysinfo.Host{Root: root}.Read("x86_64")
			if err != nil {
				t.Fatal(err)
			}
			if r.Network.Cards == nil || r.GPU.Cards == nil || r.USB.Devices == nil || r.PCI.Devices == nil || r.Storage.Disks == nil {
				t.Error("an empty list became null")
			}
			if r.CPU.Total != 8 || r.Memory.Total == 0 {
				t.Errorf("%+v %+v", r.CPU, r.Memory)
			}
		})
	}
}

func TestNoProcessorsIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := (sysinfo.Host{Root: t.TempDir()}).Read("x86_64"); err == nil {
		t.Error("no error")
	}
}
