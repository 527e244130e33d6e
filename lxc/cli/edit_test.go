//go:build unix

package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func editor(t *testing.T, script string) *App {
	t.Helper()
	file := filepath.Join(t.TempDir(), "editor")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return &App{In: strings.NewReader(""), Out: &bytes.Buffer{}, Err: &bytes.Buffer{}, Getenv: func(key string) string {
		if key == "EDITOR" {
			return file
		}
		return ""
	}}
}

func command(t *testing.T) *cobra.Command {
	t.Helper()
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	return cmd
}

func TestEditorChangesTheText(t *testing.T) {
	t.Parallel()
	a := editor(t, `sed -i s/old/new/ "$1"`)
	got, err := a.Edit(command(t), []byte("name: old\n"), ".yaml")
	if err != nil || string(got) != "name: new\n" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestFailingEditorIsNamed(t *testing.T) {
	t.Parallel()
	a := editor(t, "exit 3")
	if _, err := a.Edit(command(t), nil, ""); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
}
