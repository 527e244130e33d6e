package driver

import (
	"context"
	"fmt"
	"slices"
	"sort"

	"sett/shared/errs"
)

// Registry is the set of kinds that a daemon knows.
type Registry struct{ kinds map[string]Kind }

// NewRegistry makes a registry; two kinds of one name are a bug.
func NewRegistry(kinds ...Kind) *Registry {
	r := &Registry{kinds: map[string]Kind{}}
	for _, k := range kinds {
		if r.kinds[k.Name()] != nil {
			panic(fmt.Sprintf("storage driver %q registered twice", k.Name()))
		}
		r.kinds[k.Name()] = k
	}
	return r
}

// Names lists all kinds, sorted.
func (r *Registry) Names() []string {
	out := make([]string, 0, len(r.kinds))
	for n := range r.kinds {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}

// later are the drivers of LXD 5.0 that are told from typing errors.
var later = []string{"ceph", "cephfs", "cephobject", "lvm", "zfs"}

// Kind finds a kind, whether it works on this host or not.
func (r *Registry) Kind(name string) (Kind, error) {
	if k := r.kinds[name]; k != nil {
		return k, nil
	}
	if slices.Contains(later, name) {
		return nil, errs.NotImplemented("Storage driver %q is not implemented", name)
	}
	return nil, errs.Invalid("Unknown storage driver %q", name)
}

// Supported lists what works on this host, by name.
func (r *Registry) Supported(ctx context.Context) []Info {
	var out []Info
	for _, n := range r.Names() {
		if i, ok, _ := r.kinds[n].Info(ctx); ok {
			out = append(out, i)
		}
	}
	return out
}

// New makes the driver of a pool, or says why its kind cannot work here.
func (r *Registry) New(ctx context.Context, name string, env Env) (Driver, error) {
	k, err := r.Kind(name)
	if err != nil {
		return nil, err
	}
	if _, ok, why := k.Info(ctx); !ok {
		return nil, errs.Unavailable("Storage driver %q cannot be used here: %s", name, why)
	}
	return k.New(env)
}
