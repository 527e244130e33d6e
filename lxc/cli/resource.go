package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/shared/i18n"
)

// Resource is a name and the server that it belongs to.
type Resource struct {
	Remote string
	Server client.InstanceServer
	Name   string
	Target string // the member that --target names
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
	member := targetOf(cmd)
	if member != "" {
		s = s.UseTarget(member)
	}
	return Resource{Remote: remote, Server: s, Name: name, Target: member}, nil
}

// targetFlag is the name of the flag that Target adds.
const targetFlag = "target"

// Target gives a command the flag --target: what it asks of a cluster, it asks of the
// member that is named there.
func Target(cmd *cobra.Command) {
	cmd.Flags().String(targetFlag, "", i18n.G("Cluster member name")+"``")
	_ = cmd.Flags().SetAnnotation(targetFlag, targetKey, []string{"true"})
}

// targetKey marks the flags that Target has added: other commands may have one of the
// same name that means something else.
const targetKey = "sett_target"

func targetOf(cmd *cobra.Command) string {
	f := cmd.Flags().Lookup(targetFlag)
	if f == nil || f.Annotations[targetKey] == nil {
		return ""
	}
	return f.Value.String()
}

// ServerTarget refuses --target where it picks nothing: instances are on one member
// anyway, and a server alone is no cluster.
func (r Resource) ServerTarget() error {
	switch {
	case r.Target == "":
		return nil
	case r.Name != "":
		return errors.New(i18n.G("--target cannot be used with instances"))
	}
	return r.MemberTarget()
}

// MemberTarget refuses --target on a server that stands alone.
func (r Resource) MemberTarget() error {
	s, _, err := r.Server.UseTarget("").GetServer() // of the whole
	if err != nil {
		return err
	}
	if !s.Environment.ServerClustered {
		return errors.New(i18n.G("To use --target, the destination remote must be a cluster"))
	}
	return nil
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
