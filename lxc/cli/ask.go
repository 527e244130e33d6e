package cli

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"strings"

	"sett/shared/i18n"
)

// Confirm asks a question and takes yes for yes and all else for no.
func (a *App) Confirm(question string) (bool, error) {
	a.Printf("%s", question)
	line, err := bufio.NewReader(a.In).ReadString('\n')
	if err != nil && !(errors.Is(err, io.EOF) && line != "") {
		return false, err
	}
	return slices.Contains([]string{"y", "yes", i18n.G("yes")}, strings.ToLower(strings.TrimSpace(line))), nil
}
