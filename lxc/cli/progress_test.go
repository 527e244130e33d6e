package cli

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// work is an operation of a server that can be cancelled or not.
type work struct {
	over    chan error
	refuses error
}

func (w *work) Wait() error { return <-w.over }
func (w *work) Cancel() error {
	if w.refuses == nil {
		w.over <- errors.New("Operation cancelled")
	}
	return w.refuses
}

func TestInterruptCancelsTheOperation(t *testing.T) {
	t.Parallel()
	w := &work{over: make(chan error, 1)}
	asked := make(chan os.Signal, 1)
	asked <- os.Interrupt
	err := await(w, asked, func(err error) { t.Errorf("refused: %v", err) })
	if err == nil || !strings.Contains(err.Error(), "Cancelled by the user: Operation cancelled") {
		t.Errorf("got %v", err)
	}
}

func TestSecondInterruptLeavesTheOperation(t *testing.T) {
	t.Parallel()
	w := &work{over: make(chan error), refuses: errors.New("it is too late")}
	asked := make(chan os.Signal, 2)
	asked <- os.Interrupt
	told := 0
	err := await(w, asked, func(err error) {
		told++
		asked <- os.Interrupt
	})
	if told != 1 || err == nil || !strings.Contains(err.Error(), "goes on without us") {
		t.Errorf("told %d times, got %v", told, err)
	}
	close(w.over)
}

func TestAwaitGivesTheOutcome(t *testing.T) {
	t.Parallel()
	w := &work{over: make(chan error, 1)}
	boom := errors.New("boom")
	w.over <- boom
	if err := await(w, nil, nil); !errors.Is(err, boom) || err.Error() != "boom" {
		t.Errorf("got %v", err)
	}
}
