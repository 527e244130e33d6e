//go:build system

package child

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Probe builds the jail and writes what it looks like from inside into the file "seen" of
// the target.
func Probe() int {
	runtime.LockOSThread()
	if err := jail(Job{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return ExitJail
	}
	seen, err := os.Create(target + "/seen")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return ExitJail
	}
	defer seen.Close()
	b, _ := os.ReadFile("/proc/thread-self/status")
	f := map[string]string{}
	for l := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(strings.TrimSpace(l), ":")
		f[k] = strings.TrimLeft(strings.TrimSpace(v), "0")
	}
	fmt.Fprintf(seen, "capabilities %s/%s/%s\n", f["CapEff"], f["CapPrm"], f["CapBnd"])
	fmt.Fprintln(seen, "no new privileges", f["NoNewPrivs"])
	es, _ := os.ReadDir("/")
	for _, e := range es {
		fmt.Fprintln(seen, "root", e.Name())
	}
	fmt.Fprintln(seen, "write to programs:", os.WriteFile("/usr/bin/sett-evil", nil, 0o600).(*os.PathError).Err)
	is, _ := net.Interfaces()
	for _, i := range is {
		fmt.Fprintln(seen, "interfaces", i.Name)
	}
	n := 0
	ps, _ := os.ReadDir("/proc")
	for _, p := range ps {
		if p.Name()[0] >= '0' && p.Name()[0] <= '9' {
			n++
		}
	}
	fmt.Fprintln(seen, "processes", n)
	_, err = unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, true)
	fmt.Fprintln(seen, "keys of root:", err)
	// What a program that somebody took over can do to the one that started it.
	out, _ := exec.Command("/bin/sh", "-c", `for f in exe root cwd; do readlink /proc/1/$f && echo $f is open; done
		for f in mem environ maps; do ( : </proc/1/$f ) && head -c 1 /proc/1/$f && echo $f is open; done; :`).CombinedOutput()
	if strings.Contains(string(out), "is open") {
		fmt.Fprintf(seen, "process 1 is open: %s\n", out)
	}
	return 0
}
