package cli

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sett/shared/i18n"
)

// builtinAliases are those that a user may override.
func builtinAliases() map[string]string {
	return map[string]string{"shell": "exec @ARGS@ -- su -l"}
}

// expandAlias replaces the beginning of a command line that is an alias. The
// longest alias wins; @ARGS@ takes the other arguments, which otherwise follow.
// Commands of the tree cannot be hidden by an alias with their bare name, but
// extended: "list" may mean "list -c ns".
func (a *App) expandAlias(root *cobra.Command, args []string) ([]string, error) {
	flags, rest := splitGlobalFlags(args)
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
	rest = rest[len(key):]
	out := flags
	used := false
	words, err := Words(value)
	if err != nil {
		return nil, err
	}
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
