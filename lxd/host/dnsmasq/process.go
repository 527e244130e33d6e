package dnsmasq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sett/lxd/host/process"
	"sett/shared/errs"
)

// Names below a server's folder. Administrators know them.
const (
	pidName    = "dnsmasq.pid"
	leasesName = "dnsmasq.leases"
	rawName    = "dnsmasq.raw"
	hostsName  = "dnsmasq.hosts"
)

const program = "dnsmasq"

// commandLine is what a server is started with, and what it is known by later.
func commandLine(v Server) []string {
	args := append([]string{
		"--strict-order", "--bind-interfaces", "--except-interface=lo", "--no-ping",
		"--pid-file=" + filepath.Join(v.Dir, pidName),
		leaseArg(v.Dir),
		// New files in it are read at once, without a signal and without the others.
		"--dhcp-hostsdir=" + filepath.Join(v.Dir, hostsName),
	}, v.Args...)
	args = append(args, "--conf-file="+filepath.Join(v.Dir, rawName))
	if !passable(v.Dir) {
		// Somebody else could not read the known devices, and fixed addresses would
		// fail without a word.
		return append(args, "--user=root")
	}
	for _, u := range []string{"dnsmasq", "nobody"} {
		if _, err := user.Lookup(u); err == nil {
			args = append(args, "--user="+u)
			break
		}
	}
	if _, err := user.LookupGroup("nogroup"); err == nil {
		args = append(args, "--group=nogroup")
	}
	return args
}

// passable tells whether any user can get to a folder. The folder itself is made
// by us, and need not exist yet.
func passable(dir string) bool {
	for dir = filepath.Dir(dir); ; dir = filepath.Dir(dir) {
		st, err := os.Stat(dir)
		if err != nil || st.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// leaseArg names a file that no other server has, and so identifies ours.
func leaseArg(dir string) string { return "--dhcp-leasefile=" + filepath.Join(dir, leasesName) }

func prepare(v Server) error {
	// The server gives up root and still has to reach its hosts.
	if err := os.MkdirAll(v.Dir, 0o711); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(v.Dir, hostsName), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(v.Dir, rawName), []byte(v.Raw), 0o644)
}

// start returns when the server has bound its ports and gone to the background. It
// is not cut short: to kill the program half-way can leave its background half, which
// nobody knows yet, running for ever.
func start(ctx context.Context, dir string, args []string) (*process.Handle, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	if out, err := run(ctx, "", args...); err != nil {
		return nil, errs.Internal("Cannot start dnsmasq: %s", text(out, err))
	}
	p := find(dir, nil)
	if p == nil {
		return nil, errs.Internal("dnsmasq ended right after its start; the system log may tell why")
	}
	return p, nil
}

// Test checks lines of configuration without running anything.
func Test(ctx context.Context, raw string) error {
	for _, line := range strings.Split(raw, "\n") {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "=")
		// These would take the server out of our hands.
		if slices.Contains([]string{"no-daemon", "keep-in-foreground", "pid-file", "user", "group", "dhcp-leasefile"}, strings.TrimSpace(name)) {
			return errs.Invalid("dnsmasq's option %q is set by the daemon and cannot be changed", strings.TrimSpace(name))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if out, err := run(ctx, raw, "--test", "--conf-file=-"); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return errs.Internal("Cannot check dnsmasq's configuration: %v", err)
		}
		return errs.Invalid("dnsmasq refuses the configuration: %s", text(out, err))
	}
	return nil
}

func run(ctx context.Context, stdin string, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &out
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	return out.String(), err
}

func text(out string, err error) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return strings.TrimPrefix(last, "dnsmasq: ")
	}
	return err.Error()
}

// find takes hold of the server of a folder: the process in its pid file, when it
// is a dnsmasq with that folder's lease file and, unless args is nil, with just
// these arguments.
func find(dir string, args []string) *process.Handle {
	b, err := os.ReadFile(filepath.Join(dir, pidName))
	if err != nil {
		return nil
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return nil
	}
	// Hold first, look then: what is looked at cannot change under the hold.
	p, err := process.Open(pid, 0)
	if err != nil {
		return nil
	}
	if have, ok := arguments(pid); ok && p.Signal(0) == nil && slices.Contains(have, leaseArg(dir)) {
		if args == nil || slices.Equal(have, args) {
			return p
		}
	}
	p.Close()
	return nil
}

// arguments are those of a server. A guest's process can bear its name, its arguments and,
// with patience, the number of one that has ended; but it is in a namespace of its own.
func arguments(pid int) ([]string, bool) {
	const ns = "/proc/%v/ns/pid"
	ours, err := os.Readlink(fmt.Sprintf(ns, "self"))
	if err != nil {
		return nil, false
	}
	if theirs, err := os.Readlink(fmt.Sprintf(ns, pid)); err != nil || theirs != ours {
		return nil, false
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil || strings.TrimSuffix(filepath.Base(exe), " (deleted)") != program {
		return nil, false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil, false
	}
	argv := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
	return argv[1:], true
}
