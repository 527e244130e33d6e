package daemon

import (
	"context"
	"net/http"
	"slices"
	"time"

	"sett/lxd/certificate"
	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/shared/api"
)

// tell makes the other members look at trust and the shared configuration again.
func (d *Daemon) tell(ctx context.Context) { d.own.members.Tell(ctx) }

// refreshTrust is how often a member looks whom the cluster trusts: one that could not
// be told of a removal must not let the removed in for ever.
const refreshTrust = 10 * time.Second

func (d *Daemon) refreshTrust(ctx context.Context) error {
	if !d.here.Clustered() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, refreshTrust)
	defer cancel()
	return d.own.certificates.Trust().Refresh(ctx)
}

// everywhere are the addresses that a token names: a client tries them one after the
// other, so that on a cluster it need not be this member that is up.
func (d *Daemon) everywhere(ctx context.Context) []string {
	out := d.addresses()
	if !d.here.Clustered() {
		return out
	}
	others, err := d.own.relay.Others(ctx)
	if err != nil {
		d.log.Warn("Could not list the addresses of the other members for a token", "err", err)
	}
	for _, m := range others {
		if d.own.relay.Online(m) && !slices.Contains(out, m.Address) {
			out = append(out, m.Address)
		}
	}
	return out
}

// tokenElsewhere uses up a token that another member has given out.
func (d *Daemon) tokenElsewhere(ctx context.Context, secret string) (request api.CertificatesPost, ok bool) {
	if !d.here.Clustered() {
		return request, false
	}
	others, err := d.own.relay.Others(ctx)
	if err != nil {
		d.log.Warn("Could not ask the other members for a token", "err", err)
		return request, false
	}
	for _, a := range relay.Gather[api.CertificatesPost](ctx, d.own.relay, others, cluster.NotifyTime,
		relay.Request{Method: http.MethodPost, Path: certificate.PathToken, Body: certificate.TokenUse{Secret: secret}}) {
		if a.Err == nil {
			return a.Value, true
		}
	}
	return request, false
}
