package cli

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"strings"

	"golang.org/x/term"

	"sett/shared/i18n"
)

// Ask prints a question and returns the line that answers it. All questions of a run
// read through one buffer, so that answers can be piped in.
func (a *App) Ask(question string) (string, error) {
	a.Printf("%s", question)
	if a.lines == nil {
		a.lines = bufio.NewReader(a.In)
	}
	line, err := a.lines.ReadString('\n')
	if err != nil && !(errors.Is(err, io.EOF) && line != "") {
		return "", err
	}
	return strings.TrimSpace(line), nil
}

// AskSecret is Ask for what must not be seen on the screen.
func (a *App) AskSecret(question string) (string, error) {
	fd, tty := Terminal(a.In)
	if !tty {
		return a.Ask(question)
	}
	a.Printf("%s", question)
	b, err := term.ReadPassword(fd)
	a.Println()
	return string(b), err
}

// Confirm asks a question and takes yes for yes and all else for no.
func (a *App) Confirm(question string) (bool, error) {
	line, err := a.Ask(question)
	if err != nil {
		return false, err
	}
	return slices.Contains([]string{"y", "yes", i18n.G("yes")}, strings.ToLower(line)), nil
}
