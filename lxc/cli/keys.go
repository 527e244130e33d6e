package cli

import (
	"fmt"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	"sett/shared/i18n"
)

// KeyValues reads "key=value..." and the older "key value". A value of "-" is
// read from what is piped in.
func (a *App) KeyValues(args []string) (map[string]string, error) {
	if len(args) == 2 && !strings.Contains(args[0], "=") {
		args = []string{args[0] + "=" + args[1]}
	}
	out := map[string]string{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf(i18n.G("Invalid key=value configuration: %s"), arg)
		}
		if value == "-" {
			b, piped, err := a.Piped()
			if err != nil {
				return nil, fmt.Errorf(i18n.G("Can't read from stdin: %w"), err)
			}
			if piped {
				value = string(b)
			}
		}
		out[key] = value
	}
	return out, nil
}

// Keys gives any object with configuration keys its get, set, unset and edit. P
// is the writable part of the object.
type Keys[P any] struct {
	App     *App
	Missing string // error for an argument that names nothing
	// SilentUnset makes Get print nothing for a key that is not set, not even an
	// empty line; scripts tell the two apart.
	SilentUnset bool
	Load        func(cmd *cobra.Command, r Resource) (put P, etag string, err error)
	Store       func(cmd *cobra.Command, r Resource, put P, etag string) error
	Config      func(put *P) *map[string]string
}

// Get prints the value of a key; args are the object and the key.
func (k Keys[P]) Get(cmd *cobra.Command, args []string) error {
	r, err := k.App.Named(cmd, args[0], k.Missing)
	if err != nil {
		return err
	}
	put, _, err := k.Load(cmd, r)
	if err != nil {
		return err
	}
	value, ok := (*k.Config(&put))[args[1]]
	if ok || !k.SilentUnset {
		k.App.Println(value)
	}
	return nil
}

// Set changes keys; args are the object and the keys with their values.
func (k Keys[P]) Set(cmd *cobra.Command, args []string) error {
	r, err := k.App.Named(cmd, args[0], k.Missing)
	if err != nil {
		return err
	}
	values, err := k.App.KeyValues(args[1:])
	if err != nil {
		return err
	}
	return k.change(cmd, r, values)
}

// Unset removes a key; args are the object and the key.
func (k Keys[P]) Unset(cmd *cobra.Command, args []string) error {
	r, err := k.App.Named(cmd, args[0], k.Missing)
	if err != nil {
		return err
	}
	return k.change(cmd, r, map[string]string{args[1]: ""})
}

func (k Keys[P]) change(cmd *cobra.Command, r Resource, values map[string]string) error {
	put, etag, err := k.Load(cmd, r)
	if err != nil {
		return err
	}
	c := k.Config(&put)
	if *c == nil {
		*c = map[string]string{}
	}
	maps.Copy(*c, values)
	return k.Store(cmd, r, put, etag)
}

// Edit changes the whole object; args are the object.
func (k Keys[P]) Edit(help string) func(cmd *cobra.Command, args []string) error {
	return func(cmd *cobra.Command, args []string) error {
		r, err := k.App.Named(cmd, args[0], k.Missing)
		if err != nil {
			return err
		}
		if _, tty := Terminal(k.App.In); !tty {
			// What is piped in replaces the object, whatever it is by now.
			return EditYAML(k.App, cmd, help, nil, func(put P) error { return k.Store(cmd, r, put, "") })
		}
		put, etag, err := k.Load(cmd, r)
		if err != nil {
			return err
		}
		return EditYAML(k.App, cmd, help, put, func(put P) error { return k.Store(cmd, r, put, etag) })
	}
}

// Pairs reads the configuration of something new from arguments of the form key=value.
func Pairs(args []string) (map[string]string, error) {
	out := map[string]string{}
	for _, kv := range args {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return nil, fmt.Errorf(i18n.G("Bad key/value pair: %s"), kv)
		}
		out[k] = v
	}
	return out, nil
}
