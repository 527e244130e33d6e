package cli

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sett/shared/i18n"
)

// builtinAliases are those that a user may override.
func builtinAliases() map[string]string {
	return map[string]string{"shell": "exec @ARGS@ -- su -l"}
}

// expandAlias replaces the beginning of a command line that is an alias. The
// longest alias wins; @ARG1@ takes the first argument and so on, @ARGS@ those that
// no number has taken, which otherwise follow. The user's aliases win over commands,
// so that "list" may mean "list -c ns"; those built in do not.
func (a *App) expandAlias(root *cobra.Command, args []string) ([]string, error) {
	flags, rest := splitGlobalFlags(args)
	if len(rest) > 0 && (rest[0] == cobra.ShellCompRequestCmd || rest[0] == cobra.ShellCompNoDescRequestCmd) {
		return slices.Concat(flags, rest[:1], a.expandUnfinished(root, rest[1:])), nil
	}
	find := func(aliases map[string]string) (key []string, value string) {
		for k, v := range aliases {
			words := strings.Fields(k)
			if len(words) > len(key) && len(words) <= len(rest) && slices.Equal(words, rest[:len(words)]) {
				key, value = words, v
			}
		}
		return key, value
	}
	key, value := find(a.Conf.Aliases)
	if key == nil {
		if c, _, err := root.Find(rest); err == nil && c != root {
			return args, nil
		}
		if key, value = find(builtinAliases()); key == nil {
			return args, nil
		}
	}
	words, err := Words(value)
	if err != nil {
		return nil, err
	}
	words, rest, err = fillIn(words, rest[len(key):])
	if err != nil {
		return nil, err
	}
	out := flags
	used := false
	for _, w := range words {
		if w == "@ARGS@" {
			out = append(out, rest...)
			used = true
			continue
		}
		out = append(out, w)
	}
	if !used {
		out = append(out, rest...)
	}
	return out, nil
}

// expandUnfinished is expandAlias for a line whose last word is being completed. What an
// alias has after its arguments is not there yet.
func (a *App) expandUnfinished(root *cobra.Command, args []string) []string {
	const mark = "\x00" // no argument can hold it
	last := len(args) - 1
	if last < 1 {
		return args
	}
	line, err := a.expandAlias(root, append(slices.Clone(args[:last]), mark))
	at := slices.Index(line, mark)
	if err != nil || at < 0 {
		return args
	}
	return append(line[:at], args[last])
}

// fillIn puts arguments in the place of their numbers, and returns the others.
func fillIn(words, args []string) (filled, others []string, err error) {
	number := regexp.MustCompile(`@ARG([0-9]+)@`)
	taken := map[int]bool{}
	for _, w := range words {
		filled = append(filled, number.ReplaceAllStringFunc(w, func(ref string) string {
			n, aerr := strconv.Atoi(number.FindStringSubmatch(ref)[1])
			if aerr != nil || n < 1 || n > len(args) {
				err = fmt.Errorf(i18n.G("The alias needs the argument %s, and %d are given"), ref, len(args))
				return ref
			}
			taken[n-1] = true
			return args[n-1]
		}))
	}
	for i, a := range args {
		if !taken[i] {
			others = append(others, a)
		}
	}
	return filled, others, err
}

// splitGlobalFlags parts the flags that stand before the command.
func splitGlobalFlags(args []string) (flags, rest []string) {
	i := 0
	for i < len(args) && strings.HasPrefix(args[i], "-") && args[i] != "--" {
		if args[i] == "--project" && i+1 < len(args) {
			i++
		}
		i++
	}
	return slices.Clone(args[:i]), args[i:]
}

// Words splits at spaces; quotes keep words together.
func Words(s string) ([]string, error) {
	var out []string
	var word strings.Builder
	in, quote := false, rune(0)
	for _, c := range s {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '"' || c == '\'':
			quote, in = c, true
		case c == ' ' || c == '\t':
			if in {
				out = append(out, word.String())
				word.Reset()
			}
			in = false
		default:
			word.WriteRune(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, errors.New(i18n.G("The alias has a quote without its end"))
	}
	if in {
		out = append(out, word.String())
	}
	return out, nil
}
