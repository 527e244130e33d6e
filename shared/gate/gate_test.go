package gate_test

import (
	"context"
	"errors"
	"testing"

	"sett/shared/gate"
)

func TestGateHoldsOneCallOfAStep(t *testing.T) {
	t.Parallel()
	var g gate.Gate[string]
	if err := g.Pass(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	reached, release := g.Hold("a")
	passed := make(chan error, 1)
	go func() { passed <- g.Pass(t.Context(), "a") }()
	<-reached
	// Others go on, and so does whoever comes to the same step next.
	if err := errors.Join(g.Pass(t.Context(), "b"), g.Pass(t.Context(), "a")); err != nil {
		t.Error(err)
	}
	select {
	case <-passed:
		t.Error("it did not wait")
	default:
	}
	release()
	release()
	if err := <-passed; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, release = g.Hold("a")
	defer release()
	cancel()
	if err := g.Pass(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
