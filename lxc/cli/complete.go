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
		"<alias>":     func(s client.InstanceServer) ([]string, error) { return s.GetImageAliasNames() },
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
	words := strings.Fields(cmd.Use)[1:]
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		what := placeholder(words, len(args))
		if what == "" {
			return nil, cobra.ShellCompDirectiveDefault // perhaps a file
		}
		return a.complete(cmd.Context(), what, toComplete), cobra.ShellCompDirectiveNoFileComp
	}
}

// placeholder returns which placeholder the argument at a position fills.
func placeholder(words []string, at int) string {
	repeat := ""
	position := 0
	for _, w := range words {
		if w == "[flags]" || w == "[--]" {
			continue
		}
		found := ""
		for p := range listers() {
			if strings.Contains(w, p) {
				found = p
			}
		}
		if strings.HasSuffix(w, "...]") || strings.HasSuffix(w, "...") {
			repeat = found
		}
		if position == at && found != "" {
			return found
		}
		position++
	}
	if at >= position {
		return repeat
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
	var out []string
	for _, n := range names {
		if strings.HasPrefix(n, name) {
			out = append(out, strings.TrimSuffix(prefix, name)+n)
		}
	}
	return out
}
