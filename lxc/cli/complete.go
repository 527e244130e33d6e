package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/shared/api"
)

// completionTimeout bounds what a press of the tab key may take.
const completionTimeout = 2 * time.Second

// lister returns the names that can stand for a placeholder.
type lister func(client.InstanceServer) ([]string, error)

// listers knows the placeholders that are used in the commands' usage.
func listers() map[string]lister {
	return map[string]lister{
		"<instance>":  func(s client.InstanceServer) ([]string, error) { return s.GetInstanceNames(api.InstanceTypeAny) },
		"<profile>":   func(s client.InstanceServer) ([]string, error) { return s.GetProfileNames() },
		"<network>":   func(s client.InstanceServer) ([]string, error) { return s.GetNetworkNames() },
		"<pool>":      func(s client.InstanceServer) ([]string, error) { return s.GetStoragePoolNames() },
		"<image>":     func(s client.InstanceServer) ([]string, error) { return s.GetImageAliasNames() },
		"<member>":    func(s client.InstanceServer) ([]string, error) { return s.GetClusterMemberNames() },
		"<operation>": func(s client.InstanceServer) ([]string, error) { return s.GetOperationUUIDs() },
		"]<alias>":    func(s client.InstanceServer) ([]string, error) { return s.GetImageAliasNames() }, // others are the client's own
	}
}

// addCompletion gives all commands below cmd completion of names; what an
// argument names is read from the usage line, so that the two cannot differ.
func (a *App) addCompletion(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		a.addCompletion(c)
	}
	if cmd.HasSubCommands() || cmd.ValidArgs != nil || cmd.ValidArgsFunction != nil {
		return
	}
	words := usageWords(cmd.Use)[1:]
	if cmd.Name() == "create" && len(words) > 0 && !strings.Contains(words[0], "<instance>") {
		words[0] = "<new-name>"
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		var out []string
		directive := cobra.ShellCompDirectiveNoFileComp
		for _, word := range candidates(words, len(args)) {
			switch what := placeholder(word); {
			case word == "<remote>":
				out = append(out, beginning(a.Conf.Names(), toComplete)...)
			case what != "":
				out = append(out, a.complete(cmd.Context(), what, toComplete)...)
			default:
				directive = cobra.ShellCompDirectiveDefault // perhaps a file
			}
		}
		return out, directive
	}
}

// usageWords splits a usage line; what stands in angle brackets is one word.
func usageWords(use string) (out []string) {
	for _, w := range strings.Fields(use) {
		if n := len(out) - 1; n >= 0 && strings.Count(out[n], "<") > strings.Count(out[n], ">") {
			out[n] += " " + w
		} else if w != "[flags]" && w != "[--]" {
			out = append(out, w)
		}
	}
	return out
}

// candidates are the words of a usage line that the argument at a position may stand
// for: after one that repeats, any argument may be one more of it or what follows.
func candidates(words []string, at int) []string {
	for i, w := range words {
		if strings.HasSuffix(strings.TrimSuffix(w, "]"), "...") && at >= i {
			// "<a>... <b>" takes one a at least, "<a> [<a>...] <b>" may take no more.
			if at == i && !strings.HasSuffix(w, "]") {
				return words[i : i+1]
			}
			return words[i:min(i+2, len(words))]
		}
	}
	if at < len(words) {
		return words[at : at+1]
	}
	return []string{""}
}

// placeholder returns which of the known placeholders is in a word.
func placeholder(word string) string {
	for p := range listers() {
		if strings.Contains(word, p) {
			return p
		}
	}
	return ""
}

// complete lists names; a server that does not answer completes nothing.
func (a *App) complete(ctx context.Context, what, prefix string) []string {
	list, ok := listers()[what]
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	a.Conf.Project = a.project() // --project of the line that is completed
	remote, name, err := a.Conf.ParseRemote(prefix)
	if err != nil {
		return nil
	}
	s, err := a.Conf.InstanceServer(ctx, remote, a.ConnectionArgs())
	if err != nil {
		return nil
	}
	defer s.Disconnect()
	names, err := list(s)
	if err != nil {
		return nil
	}
	out := beginning(names, name)
	for i, n := range out {
		out[i] = strings.TrimSuffix(prefix, name) + n
	}
	return out
}

// beginning returns the words that begin with prefix.
func beginning(words []string, prefix string) (out []string) {
	for _, w := range words {
		if strings.HasPrefix(w, prefix) {
			out = append(out, w)
		}
	}
	return out
}
