package errs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"sett/shared/errs"
)

func TestKindSurvivesWrapping(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("load profile: %w", errs.NotFound("Profile %q not found", "web"))
	if errs.Status(err) != 404 || !errs.Is(err, errs.KindNotFound) {
		t.Fatalf("got kind %v, status %d", errs.KindOf(err), errs.Status(err))
	}
	if err.Error() != `load profile: Profile "web" not found` {
		t.Fatalf("text: %q", err)
	}
}

func TestWrapKeepsCause(t *testing.T) {
	t.Parallel()
	err := errs.Wrap(errs.KindNotFound, fs.ErrNotExist)
	if !errors.Is(err, fs.ErrNotExist) || errs.Status(err) != 404 {
		t.Fatalf("cause or kind lost: %v", err)
	}
	if errs.Wrap(errs.KindInvalid, nil) != nil {
		t.Fatal("wrapping nil made an error")
	}
}

func TestUnknownErrorIsInternal(t *testing.T) {
	t.Parallel()
	if errs.Status(errors.New("boom")) != 500 {
		t.Fatal("plain errors must be 500")
	}
}

func TestStatusRoundTrip(t *testing.T) {
	t.Parallel()
	for _, k := range []errs.Kind{errs.KindInvalid, errs.KindConflict, errs.KindTooLarge, errs.KindUnavailable} {
		code := errs.Status(errs.Wrap(k, errors.New("x")))
		if got := errs.KindOf(errs.FromStatus(code, "x")); got != k {
			t.Errorf("kind %v became %v over status %d", k, got, code)
		}
	}
}
