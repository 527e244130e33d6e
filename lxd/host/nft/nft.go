package nft

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"sett/shared/errs"
)

// Chain is one chain of ours.
type Chain struct {
	Family string // inet, bridge
	Table  string
	Name   string
	// Hook is the chain's head, "type filter hook input priority filter"; empty for
	// a chain that others jump to.
	Hook  string
	Rules []string
}

// Replace puts each chain in place of what its name held before. Chains without
// rules are removed.
func Replace(ctx context.Context, chains []Chain) error {
	return run(ctx, Script(chains))
}

// Remove deletes chains by name; those that are not there are gone already.
func Remove(ctx context.Context, family, table string, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	have, err := Chains(ctx, family, table)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, n := range names {
		if have[n] {
			remove(&b, family, table, n)
		}
	}
	if b.Len() == 0 {
		return nil
	}
	return run(ctx, b.String())
}

// Script renders the transaction that Replace runs.
func Script(chains []Chain) string {
	var b strings.Builder
	for _, c := range chains {
		fmt.Fprintf(&b, "add table %s %s\n", c.Family, c.Table)
		// Deleting what is not there fails, and adding what is there does not. The new
		// chain's hook may differ from the old one's, which only a new chain can have.
		remove(&b, c.Family, c.Table, c.Name)
		if len(c.Rules) == 0 {
			continue
		}
		head := ""
		if c.Hook != "" {
			head = fmt.Sprintf(" { %s; policy accept; }", c.Hook)
		}
		fmt.Fprintf(&b, "add chain %s %s %s%s\n", c.Family, c.Table, c.Name, head)
		for _, r := range c.Rules {
			fmt.Fprintf(&b, "add rule %s %s %s %s\n", c.Family, c.Table, c.Name, r)
		}
	}
	return b.String()
}

func remove(b *strings.Builder, family, table, name string) {
	fmt.Fprintf(b, "add chain %[1]s %[2]s %[3]s\nflush chain %[1]s %[2]s %[3]s\ndelete chain %[1]s %[2]s %[3]s\n", family, table, name)
}

// Chains names the chains of a table; of a table that does not exist, none.
func Chains(ctx context.Context, family, table string) (map[string]bool, error) {
	// "list chains" knows all tables of a family and does not fail when one is missing.
	out, err := output(ctx, "", "-j", "list", "chains", family)
	if err != nil {
		return nil, err
	}
	var reply struct {
		Nftables []struct {
			Chain *struct{ Table, Name string }
		}
	}
	if err := json.Unmarshal(out, &reply); err != nil {
		return nil, fmt.Errorf("read the answer of nft: %w", err)
	}
	names := map[string]bool{}
	for _, e := range reply.Nftables {
		if e.Chain != nil && e.Chain.Table == table {
			names[e.Chain.Name] = true
		}
	}
	return names, nil
}

// List returns the rules of a chain as nft prints them, or "" when there is no such chain.
func List(ctx context.Context, family, table, name string) (string, error) {
	have, err := Chains(ctx, family, table)
	if err != nil || !have[name] {
		return "", err
	}
	out, err := output(ctx, "", "list", "chain", family, table, name)
	return string(out), err
}

func run(ctx context.Context, script string) error {
	_, err := output(ctx, script, "-f", "-")
	return err
}

// patience bounds one run of nft, which takes milliseconds. Undo steps come here with
// contexts that never end.
const patience = 30 * time.Second

func output(ctx context.Context, stdin string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "nft", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if cerr := context.Cause(ctx); cerr != nil {
			return nil, fmt.Errorf("change the firewall with nft: %w", cerr)
		}
		text, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		if text == "" {
			text = err.Error()
		}
		return nil, errs.Internal("Cannot change the firewall with nft: %s", text)
	}
	return stdout.Bytes(), nil
}
