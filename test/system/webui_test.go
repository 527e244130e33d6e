//go:build system

package system

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWebInterface runs the tests of test/ui in a browser against a daemon and
// containers of their own.
func TestWebInterface(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		// Node is never installed for this: what has none has no web interface either.
		t.Skip("node is not installed, so there is no web interface to test")
	}
	if _, err := os.Stat(filepath.Join(top(), "lxd/ui/web/node_modules/playwright-core")); err != nil {
		t.Fatal("The packages of the web interface were not fetched; run 'make deps'")
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("Chromium is not installed; run 'make deps'")
	}
	h := newHost(t)
	h.setUp("dir")
	tests, err := filepath.Glob(filepath.Join(top(), "test/ui/*.test.mjs"))
	if err != nil || len(tests) == 0 {
		t.Fatal("no tests of the web interface", err)
	}
	for _, file := range tests {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".test.mjs"), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, node, "--test", "--test-reporter=spec", file)
			cmd.Env = append(h.environ(), "SETT_LXC="+h.bin.lxc(), "SETT_LXD="+h.bin.lxd(), "SETT_CHROMIUM="+chromium, "SETT_TOKEN="+h.token,
				"HOME="+t.TempDir())
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s\n%s", err, out, h.logTail())
			} else {
				t.Logf("%s", out)
			}
			h.seen()
		})
	}
}
