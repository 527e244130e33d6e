package certificate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sett/shared/errs"
)

func TestPasswordsAreStoredAsHashes(t *testing.T) {
	t.Parallel()
	a, err := hash("secret")
	if err != nil {
		t.Fatal(err)
	}
	b, err := hash("secret")
	if err != nil || a == b || strings.Contains(a, "secret") {
		t.Fatalf("two hashes of one password: %s, %s, %v", a, b, err)
	}
	for _, c := range []struct {
		password, stored string
		want             bool
	}{{"secret", a, true}, {"secret", b, true}, {"Secret", a, false}, {"", a, false}, {"secret", "", false}, {"secret", "zz", false}, {"secret", a[:20], false}} {
		if got := matches(c.password, c.stored); got != c.want {
			t.Errorf("%q against %.10q: %v", c.password, c.stored, got)
		}
	}
}

func TestGuessingIsSlow(t *testing.T) {
	t.Parallel()
	g := newGuard()
	now := time.Unix(1000, 0)
	g.now = func() time.Time { return now }
	stored, err := hash("secret")
	if err != nil {
		t.Fatal(err)
	}
	try := func(address, password string) error { return g.try(t.Context(), address, password, stored) }
	if err := try("10.0.0.1:1000", "wrong"); !errs.Is(err, errs.KindForbidden) || strings.Contains(err.Error(), "Too many") {
		t.Fatal(err)
	}
	for range guesses - 1 {
		g.allow(origin("10.0.0.1:1000"))
	}
	// Not even the right one, or the answer would tell.
	if err := try("10.0.0.1:1001", "secret"); err == nil || !strings.Contains(err.Error(), "Too many") {
		t.Errorf("after %d guesses: %v", guesses, err)
	}
	if err := try("10.0.0.2:1000", "secret"); err != nil {
		t.Errorf("another address: %v", err)
	}
	now = now.Add(guessEvery)
	if err := try("10.0.0.1:1002", "secret"); err != nil {
		t.Errorf("later: %v", err)
	}
	// An IPv6 subnet is one guesser.
	refused := 0
	for i := range guesses + 1 {
		if !g.allow(origin(fmt.Sprintf("[fd42::%x]:1", i+1))) {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("%d refused", refused)
	}
}

func TestManyGuessersAreSlowToo(t *testing.T) {
	t.Parallel()
	g := newGuard()
	now := time.Unix(1000, 0)
	g.now = func() time.Time { return now }
	allowed := 0
	for i := range 10000 {
		if g.allow(origin(fmt.Sprintf("10.1.%d.%d:1", i/250, i%250))) {
			allowed++
		}
	}
	if allowed != guessesOfAll || len(g.by) > guessesOfAll {
		t.Errorf("%d guesses at once, %d guessers remembered", allowed, len(g.by))
	}
	now = now.Add(time.Hour)
	if !g.allow(origin("10.9.9.9:1")) || len(g.by) > 4097 {
		t.Errorf("an hour later; %d remembered", len(g.by))
	}
}
