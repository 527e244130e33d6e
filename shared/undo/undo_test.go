package undo_test

import (
	"errors"
	"slices"
	"testing"

	"sett/shared/undo"
)

func TestRunRevertsBackwardsAndGoesOnAfterAnError(t *testing.T) {
	t.Parallel()
	var got []int
	bad := errors.New("stuck")
	var seen []error
	u := undo.Stack{OnError: func(err error) { seen = append(seen, err) }}
	for i := range 3 {
		u.Push(func() error {
			got = append(got, i)
			if i == 1 {
				return bad
			}
			return nil
		})
	}
	u.Run()
	u.Run()
	if !slices.Equal(got, []int{2, 1, 0}) {
		t.Fatalf("order %v", got)
	}
	if len(seen) != 1 || seen[0] != bad {
		t.Fatalf("errors %v", seen)
	}
}

func TestCommitKeepsWhatWasDone(t *testing.T) {
	t.Parallel()
	var u undo.Stack
	u.Push(func() error { t.Error("reverted after commit"); return nil })
	u.Commit()
	u.Run()
}

func TestTakeMovesTheWayBack(t *testing.T) {
	t.Parallel()
	n := 0
	var u undo.Stack
	u.Push(func() error { n++; return nil })
	v := u.Take()
	u.Run()
	if n != 0 {
		t.Fatal("the old stack still reverts")
	}
	v.Run()
	if n != 1 {
		t.Fatal("the new stack does not revert")
	}
}
