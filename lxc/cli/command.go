package cli

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sett/shared/errs"
	"sett/shared/i18n"
)

// templateFuncs are known to cobra for the whole process; they hold no state.
var templateFuncs = sync.OnceFunc(func() {
	cobra.AddTemplateFunc("tr", func(s string) string {
		switch s {
		case "Description:":
			return i18n.G("Description:")
		case "Usage:":
			return i18n.G("Usage:")
		case "Aliases:":
			return i18n.G("Aliases:")
		case "Examples:":
			return i18n.G("Examples:")
		case "Available Commands:":
			return i18n.G("Available Commands:")
		case "Flags:":
			return i18n.G("Flags:")
		}
		return i18n.G("Global Flags:")
	})
	cobra.AddTemplateFunc("indent", func(s string) string {
		lines := strings.Split(strings.TrimSpace(s), "\n")
		for i, l := range lines {
			if l != "" {
				lines[i] = "  " + l
			}
		}
		return strings.Join(lines, "\n")
	})
	cobra.AddTemplateFunc("more", func(path string) string {
		return fmt.Sprintf(i18n.G("Use \"%s [command] --help\" for more information about a command."), path)
	})
})

// Help is what people read about a command.
type Help struct {
	Use     string // name and arguments
	Short   string // one imperative line
	Long    string // what Short leaves open
	Example string // command lines that work when pasted
	Aliases []string
	Hidden  bool
}

// Command builds a command that takes from minArgs to maxArgs arguments (-1: any
// number). Run without the arguments it needs, it prints its help; that is an
// error only where some were given.
func Command(h Help, minArgs, maxArgs int, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	templateFuncs()
	cmd := &cobra.Command{
		Use: h.Use, Short: h.Short, Long: h.Short, Example: h.Example, Aliases: h.Aliases, Hidden: h.Hidden,
		DisableFlagsInUseLine: strings.Contains(h.Use, "[flags]"),
	}
	if h.Long != "" {
		cmd.Long += "\n\n" + h.Long
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := refuseLater(cmd); err != nil {
			return err
		}
		if len(args) < minArgs || maxArgs >= 0 && len(args) > maxArgs {
			_ = cmd.Help()
			if len(args) == 0 {
				return nil
			}
			return errors.New(i18n.G("Invalid number of arguments"))
		}
		return run(cmd, args)
	}
	return cmd
}

// Noun builds a command that only holds others.
func Noun(h Help, verbs ...*cobra.Command) *cobra.Command {
	templateFuncs()
	cmd := &cobra.Command{
		Use: h.Use, Short: h.Short, Long: h.Short, Aliases: h.Aliases, Hidden: h.Hidden,
		Args: cobra.NoArgs, RunE: Group,
	}
	if h.Long != "" {
		cmd.Long += "\n\n" + h.Long
	}
	cmd.AddCommand(verbs...)
	return cmd
}

// Group is what a command does that only holds others.
func Group(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf(i18n.G("unknown command %q for %q"), args[0], cmd.CommandPath())
	}
	return Usage(cmd)
}

// Usage says on stderr how a command is used; it is no failure.
func Usage(cmd *cobra.Command) error {
	_, err := fmt.Fprint(cmd.ErrOrStderr(), cmd.UsageString())
	return err
}

// laterKey marks flags that belong to what is not built yet.
const laterKey = "sett-later"

// Later adds flags that LXD has and this build refuses by name. A name that ends
// in "=" takes a value; "t/target=" has a short form.
func Later(cmd *cobra.Command, flags ...string) {
	for _, f := range flags {
		f, value := strings.CutSuffix(f, "=")
		short, name, ok := strings.Cut(f, "/")
		if !ok {
			short, name = "", f
		}
		usage := i18n.G("Not implemented yet") + "``"
		switch {
		case value && name == "console":
			cmd.Flags().StringP(name, short, "", usage)
			cmd.Flags().Lookup(name).NoOptDefVal = "console"
		case value:
			cmd.Flags().StringP(name, short, "", usage)
		default:
			cmd.Flags().BoolP(name, short, false, i18n.G("Not implemented yet"))
		}
		_ = cmd.Flags().SetAnnotation(name, laterKey, []string{"true"})
	}
}

// addRefusal adds a command that LXD has and this build refuses by name, whatever is
// asked of it, so that nobody takes it for a typing error.
func addRefusal(root *cobra.Command, path string) {
	words := strings.Fields(path)
	last := len(words) - 1
	parent, _, err := root.Find(words[:last])
	if err != nil || parent.CommandPath() != strings.Join(append([]string{root.Name()}, words[:last]...), " ") {
		panic("no command holds " + path)
	}
	parent.AddCommand(&cobra.Command{
		Use: words[last], Hidden: true, DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errs.NotImplemented(i18n.G("%q is not implemented in this version"), cmd.CommandPath())
		},
	})
}

func refuseLater(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if _, ok := f.Annotations[laterKey]; ok && err == nil {
			err = errs.NotImplemented(i18n.G("The flag --%s of \"%s\" is not implemented"), f.Name, cmd.CommandPath())
		}
	})
	return err
}
