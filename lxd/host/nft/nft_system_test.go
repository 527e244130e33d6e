//go:build system

package nft

import (
	"fmt"
	"sync"
	"testing"

	"sett/lxd/host/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

func chain(name string, rules ...string) Chain {
	return Chain{Family: "inet", Table: "t", Name: name, Hook: "type filter hook input priority filter", Rules: rules}
}

func text(t *testing.T, name string) string {
	t.Helper()
	out, err := List(t.Context(), "inet", "t", name)
	if err != nil {
		t.Error(err)
	}
	return out
}

func TestReplaceIsAllOrNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	if err := Replace(ctx, []Chain{chain("a", "counter accept")}); err != nil {
		t.Fatal(err)
	}
	before := text(t, "a")
	if err := Replace(ctx, []Chain{chain("a", "counter drop"), chain("b", "counter accept"), chain("c", "no such rule")}); err == nil {
		t.Error("a rule that is none was taken")
	}
	if after := text(t, "a"); after != before || before == "" || text(t, "b") != "" {
		t.Errorf("chain a was\n%s\nand is\n%s\nb is\n%s", before, after, text(t, "b"))
	}
	if err := Replace(ctx, []Chain{chain("a")}); err != nil || text(t, "a") != "" {
		t.Errorf("a chain without rules stays: %v", err)
	}
	for range 2 {
		if err := Remove(ctx, "inet", "nosuchtable", "a"); err != nil {
			t.Error(err)
		}
	}
}

// TestManyAtOnce has instances start and stop side by side, in a table that is another
// daemon's too.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	if err := Replace(ctx, []Chain{chain("theirs", "counter accept")}); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			name := fmt.Sprintf("in.c%d.eth0", i)
			for n := range 3 {
				if err := Replace(ctx, []Chain{chain(name, fmt.Sprintf(`iifname "veth%d" drop`, n))}); err != nil {
					t.Error(err)
				}
			}
			if out := text(t, name); out == "" {
				t.Errorf("chain %s is not there", name)
			}
			if err := Remove(ctx, "inet", "t", name); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	have, err := Chains(ctx, "inet", "t")
	if err != nil || !have["theirs"] {
		t.Errorf("%v, %v", have, err)
	}
	for name := range have {
		if name != "theirs" && name != "a" {
			t.Errorf("chain %s stayed", name)
		}
	}
}
