package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"gopkg.in/yaml.v2"

	"sett/shared/errs"
	"sett/shared/i18n"
)

// Terminal reports whether a stream is a terminal, and its descriptor.
func Terminal(stream any) (int, bool) {
	f, ok := stream.(*os.File)
	if !ok {
		return -1, false
	}
	return int(f.Fd()), term.IsTerminal(int(f.Fd()))
}

// Piped returns what was piped in, and whether something was.
func (a *App) Piped() ([]byte, bool, error) {
	if _, tty := Terminal(a.In); tty {
		return nil, false, nil
	}
	b, err := io.ReadAll(a.In)
	return b, true, err
}

// Edit shows text in the user's editor and returns what became of it. ext is the
// ending of the file that the editor sees, by which many of them know what it holds.
func (a *App) Edit(cmd *cobra.Command, text []byte, ext string) ([]byte, error) {
	f, err := os.CreateTemp("", "lxc-edit-*"+ext)
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if _, err = f.Write(text); err != nil {
		_ = f.Close()
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	editor, err := a.editor()
	if err != nil {
		return nil, err
	}
	words := append(strings.Fields(editor), f.Name())
	c := exec.CommandContext(cmd.Context(), words[0], words[1:]...)
	c.Stdin, c.Stdout, c.Stderr = a.In, a.Out, a.Err
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf(i18n.G("Editor %q failed: %w"), editor, err)
	}
	return os.ReadFile(f.Name())
}

func (a *App) editor() (string, error) {
	for _, key := range []string{"VISUAL", "EDITOR"} {
		if e := a.Getenv(key); e != "" {
			return e, nil
		}
	}
	for _, e := range []string{"editor", "vi", "nano", "emacs", "notepad"} {
		if _, err := exec.LookPath(e); err == nil {
			return e, nil
		}
	}
	return "", errs.Invalid("%s", i18n.G("No text editor found, please set the EDITOR environment variable"))
}

// EditYAML changes an object: what is piped in replaces it; without a pipe the
// user edits help and current until store takes it or the user gives up.
func EditYAML[T any](a *App, cmd *cobra.Command, help string, current any, store func(T) error) error {
	b, piped, err := a.Piped()
	if err != nil {
		return err
	}
	if piped {
		var put T
		if err := yaml.Unmarshal(b, &put); err != nil {
			return err
		}
		return store(put)
	}
	doc, err := yaml.Marshal(current)
	if err != nil {
		return err
	}
	text := append(comment(help), doc...)
	for {
		if text, err = a.Edit(cmd, text, ".yaml"); err != nil {
			return err
		}
		var put T
		err := yaml.Unmarshal(text, &put)
		if err == nil {
			err = store(put)
		}
		if err == nil {
			return nil
		}
		_, _ = fmt.Fprintf(a.Err, i18n.G("Config parsing error: %s\n"), err)
		_, _ = fmt.Fprintln(a.Err, i18n.G("Press enter to open the editor again or ctrl+c to abort change"))
		var one [1]byte
		for {
			n, rerr := a.In.Read(one[:])
			if rerr != nil {
				return err
			}
			if n == 1 && one[0] == '\n' {
				break
			}
		}
	}
}

// comment turns help into lines that YAML skips, parted from what follows.
func comment(help string) []byte {
	var b bytes.Buffer
	for line := range strings.SplitSeq(strings.TrimSpace(help), "\n") {
		line = strings.TrimRight("### "+line, " ")
		b.WriteString(line + "\n")
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// ShowYAML prints an object.
func (a *App) ShowYAML(object any) error {
	b, err := yaml.Marshal(object)
	if err != nil {
		return err
	}
	a.Printf("%s", b)
	return nil
}
