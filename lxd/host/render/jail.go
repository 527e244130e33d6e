package render

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Verb is the first argument by which a program knows that it is to call Main.
const Verb = "render"

// Jail renders in a child process. The zero value starts the running program again.
type Jail struct {
	// Command is how the child is started; Verb is added. Empty: /proc/self/exe.
	Command []string
}

// answer is what the child says.
type answer struct {
	Texts []string `json:"texts"`
	Path  string   `json:"path"`  // of the template that fails
	Error string   `json:"error"` // why
}

// maxAnswer bounds what is read of the child: it holds a hostile template.
const maxAnswer = 64 << 20

// Render returns the text of each file of a job.
func (j Jail) Render(ctx context.Context, job Job) ([]string, error) {
	if len(job.Files) > MaxFiles {
		return nil, &Error{Text: fmt.Sprintf("there are more than %d", MaxFiles)}
	}
	out := make([]string, len(job.Files))
	var hard []File
	var where []int
	for n, f := range job.Files {
		text, ok := plain(job, f)
		if out[n] = text; !ok {
			hard, where = append(hard, f), append(where, n)
		}
	}
	if len(hard) == 0 {
		return out, nil
	}
	job.Files = hard
	texts, err := j.child(ctx, job)
	if err != nil {
		return nil, err
	}
	for n, text := range texts {
		out[where[n]] = text
	}
	return out, nil
}

// child renders in the child.
func (j Jail) child(ctx context.Context, job Job) ([]string, error) {
	b, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	argv := j.Command
	if len(argv) == 0 {
		argv = []string{"/proc/self/exe"}
	}
	limit, cancel := context.WithTimeout(ctx, wallTime)
	defer cancel()
	c := exec.CommandContext(limit, argv[0], append(argv[1:len(argv):len(argv)], Verb)...)
	out, said := &clipped{max: maxAnswer}, &clipped{max: 4096}
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(b), out, said
	c.Env = []string{"GOMAXPROCS=1", "GOTRACEBACK=none"}
	c.Dir = "/"
	c.WaitDelay = time.Second
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Setsid:     true,
		Pdeathsig:  unix.SIGKILL, // a killed daemon takes the child along
	}
	ran := make(chan error)
	go func() { ran <- runWithoutKeys(c) }()
	err = <-ran
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case limit.Err() != nil:
		return nil, &Error{Text: fmt.Sprintf("they take longer than %s", wallTime)}
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if exit.ExitCode() == exitJail {
			return nil, fmt.Errorf("build the jail for templates: %s", strings.TrimSpace(said.b.String()))
		}
		// Killed for its use of the processor, or it ran out of memory or stack.
		return nil, &Error{Text: "they take too much memory or time"}
	}
	if err != nil {
		return nil, fmt.Errorf("render templates: %w", err)
	}
	var a answer
	if err := json.Unmarshal(out.b.Bytes(), &a); err != nil {
		return nil, &Error{Text: "the answer cannot be read"}
	}
	if a.Error != "" {
		return nil, &Error{a.Path, a.Error}
	}
	if len(a.Texts) != len(job.Files) {
		return nil, &Error{Text: "the answer is not whole"}
	}
	return a.Texts, nil
}

// runWithoutKeys runs a command that has none of the keys of the daemon's session.
// A session belongs to a thread, and what it starts inherits that; the child itself
// could no more leave it with all its threads. Ours has no other use afterwards and ends
// with the goroutine. It does not end before the child, for which that would be the
// daemon's death.
func runWithoutKeys(c *exec.Cmd) error {
	runtime.LockOSThread()
	// Without support for keys in the kernel there are none.
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && !errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("leave the session's keys: %w", err)
	}
	return c.Run()
}

// clipped keeps the beginning of what is written to it.
type clipped struct {
	b   bytes.Buffer
	max int
}

func (c *clipped) Write(p []byte) (int, error) {
	if room := c.max - c.b.Len(); room > 0 {
		c.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

const exitJail = 120 // the jail could not be built

// Main is the child. It returns the exit status.
func Main() int {
	// Read first: what follows takes everything away.
	b, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = confine()
	}
	var j Job
	if err == nil {
		err = json.Unmarshal(b, &j)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitJail
	}
	var a answer
	a.Texts, err = Direct{}.Render(context.Background(), j)
	var e *Error
	if errors.As(err, &e) {
		a.Path, a.Error = e.Path, e.Text
	} else if err != nil {
		a.Error = err.Error()
	}
	if json.NewEncoder(os.Stdout).Encode(a) != nil {
		return 1
	}
	return 0
}

// nobody is the user of those who own nothing.
const nobody = 65534

// confine takes everything from this process but its three streams. It starts in
// fresh namespaces, as root.
func confine() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("leave the host's mounts: %w", err)
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RDONLY
	if err := unix.Mount("tmpfs", "/tmp", "tmpfs", flags, "size=4k,mode=555"); err != nil {
		return fmt.Errorf("make an empty root: %w", err)
	}
	if err := unix.Chdir("/tmp"); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the host's root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	// Of all threads: the C library sees to it. From root to another user takes all
	// capabilities along.
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("leave the groups: %w", err)
	}
	if err := syscall.Setresgid(nobody, nobody, nobody); err != nil {
		return fmt.Errorf("leave the group: %w", err)
	}
	if err := syscall.Setresuid(nobody, nobody, nobody); err != nil {
		return fmt.Errorf("leave root: %w", err)
	}
	for what, n := range map[int]uint64{unix.RLIMIT_DATA: memory, unix.RLIMIT_CPU: cpuTime, unix.RLIMIT_CORE: 0, unix.RLIMIT_FSIZE: maxAnswer} {
		if err := unix.Setrlimit(what, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			return fmt.Errorf("limit resource %d: %w", what, err)
		}
	}
	return nil
}
