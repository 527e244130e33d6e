package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"sett/client"
)

// Resource is a name and the server that it belongs to.
type Resource struct {
	Remote string
	Server client.InstanceServer
	Name   string
}

// Resource finds the server behind "[remote:]name".
func (a *App) Resource(cmd *cobra.Command, arg string) (Resource, error) {
	remote, name, err := a.Conf.ParseRemote(arg)
	if err != nil {
		return Resource{}, err
	}
	s, err := a.Server(cmd.Context(), remote)
	if err != nil {
		return Resource{}, err
	}
	return Resource{Remote: remote, Server: s, Name: name}, nil
}

// Named is Resource for arguments that must name something; missing is the error
// for those that end after the colon.
func (a *App) Named(cmd *cobra.Command, arg, missing string) (Resource, error) {
	res, err := a.Resource(cmd, arg)
	if err == nil && res.Name == "" {
		err = errors.New(missing)
	}
	return res, err
}

// Resources is Resource for many.
func (a *App) Resources(cmd *cobra.Command, args []string) ([]Resource, error) {
	var out []Resource
	for _, arg := range args {
		r, err := a.Resource(cmd, arg)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// OptionalArg returns args[i], or what stands for the default remote.
func OptionalArg(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}
