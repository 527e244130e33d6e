package daemon

import (
	"context"
	"net/http"
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
