package cmd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"sett/shared/errs"
	"sett/shared/i18n"
)

// asker asks an administrator, or the script that answers in his place: one line for
// an answer, an empty one for the default, a wrong one is asked again.
type asker struct {
	in   *bufio.Reader
	tty  io.Reader // what in reads
	out  io.Writer
	errs io.Writer
}

func (a *asker) line(question string) (string, error) {
	fmt.Fprint(a.out, question)
	l, err := a.in.ReadString('\n')
	if errors.Is(err, io.EOF) {
		if l == "" {
			fmt.Fprintln(a.out)
			return "", errs.Invalid(i18n.G("The input ended before all questions were answered; nothing was changed"))
		}
		err = nil
	}
	return strings.TrimSpace(l), err
}

// secret asks for what must not be seen on the screen; it may be empty.
func (a *asker) secret(question string) (string, error) {
	f, ok := a.tty.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return a.line(question)
	}
	fmt.Fprint(a.out, question)
	b, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(a.out)
	return string(b), err
}

// text asks for a word. check may be nil; a word without default must not be empty.
func (a *asker) text(question, def string, check func(string) error) (string, error) {
	if def != "" {
		question = fmt.Sprintf("%s [default=%s]", question, def)
	}
	for {
		s, err := a.line(question + ": ")
		if err != nil {
			return "", err
		}
		if s == "" {
			s = def
		}
		if s == "" {
			fmt.Fprintf(a.errs, "%s\n\n", i18n.G("Please answer."))
			continue
		}
		if check != nil {
			if err := check(s); err != nil {
				fmt.Fprintf(a.errs, "%s %v\n\n", i18n.G("Invalid input:"), err)
				continue
			}
		}
		return s, nil
	}
}

// maybe asks for a word that may be empty.
func (a *asker) maybe(question string) (string, error) { return a.line(question + ": ") }

// yes asks a question of yes or no.
func (a *asker) yes(question string, def bool) (bool, error) {
	word := "no"
	if def {
		word = "yes"
	}
	s, err := a.text(question+" (yes/no)", word, func(s string) error {
		if !slices.Contains([]string{"yes", "y", "no", "n", i18n.G("yes"), i18n.G("no")}, strings.ToLower(s)) {
			return errors.New(i18n.G("answer yes or no"))
		}
		return nil
	})
	s = strings.ToLower(s)
	return s == "yes" || s == "y" || s == i18n.G("yes"), err
}

// choice asks for one of some words.
func (a *asker) choice(question string, words []string, def string) (string, error) {
	return a.text(fmt.Sprintf("%s (%s)", question, strings.Join(words, ", ")), def, func(s string) error {
		if !slices.Contains(words, s) {
			return fmt.Errorf(i18n.G("answer one of %s"), strings.Join(words, ", "))
		}
		return nil
	})
}
