package process_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"sett/lxd/host/process"
)

func TestWaitSeesTheEnd(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	st, err := process.ReadStat(cmd.Process.Pid)
	if err != nil || st.Parent != os.Getpid() {
		t.Fatalf("stat %+v, %v", st, err)
	}
	if _, err := process.Open(cmd.Process.Pid, st.Start+1); !errors.Is(err, process.ErrGone) {
		t.Errorf("another process with this pid was taken: %v", err)
	}
	h, err := process.Open(cmd.Process.Pid, st.Start)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if !h.Alive() {
		t.Error("not alive")
	}
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan error)
	go func() { got <- h.Wait(ctx) }()
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled wait: %v", err)
	}
	go func() { got <- h.Wait(context.Background()) }()
	if err := h.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := <-got; err != nil {
		t.Errorf("wait: %v", err)
	}
	if h.Alive() {
		t.Error("alive after the end")
	}
	_ = cmd.Wait()
	if _, err := process.Open(0, 0); !errors.Is(err, process.ErrGone) {
		t.Errorf("number 0: %v", err)
	}
	if err := h.Signal(syscall.SIGTERM); !errors.Is(err, process.ErrGone) {
		t.Errorf("signal to the dead: %v", err)
	}
}
