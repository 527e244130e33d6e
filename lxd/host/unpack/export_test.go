//go:build system

package unpack

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
)

// Probe builds the jail for packing and says what it looks like from inside.
func Probe() int {
	runtime.LockOSThread()
	if err := jail(job{Pack: true}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitJail
	}
	b, _ := os.ReadFile("/proc/thread-self/status")
	f := map[string]string{}
	for l := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(strings.TrimSpace(l), ":")
		f[k] = strings.TrimLeft(strings.TrimSpace(v), "0")
	}
	fmt.Printf("capabilities %s/%s/%s\n", f["CapEff"], f["CapPrm"], f["CapBnd"])
	fmt.Println("no new privileges", f["NoNewPrivs"])
	es, _ := os.ReadDir("/")
	for _, e := range es {
		fmt.Println("root", e.Name())
	}
	fmt.Println("write to target:", os.WriteFile(target+"/x", nil, 0o600).(*os.PathError).Err)
	is, _ := net.Interfaces()
	for _, i := range is {
		fmt.Println("interfaces", i.Name)
	}
	n := 0
	ps, _ := os.ReadDir("/proc")
	for _, p := range ps {
		if p.Name()[0] >= '0' && p.Name()[0] <= '9' {
			n++
		}
	}
	fmt.Println("processes", n)
	return 0
}
