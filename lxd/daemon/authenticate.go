package daemon

import (
	"context"
	"net/http"

	"golang.org/x/sys/unix"

	"sett/lxd/auth"
	"sett/lxd/ui"
	"sett/shared/errs"
	"sett/shared/keypair"
)

// authenticate says who calls. The ways in which somebody can be known are asked one
// after the other; a caller without a protocol is not known, which is no error.
func (d *Daemon) authenticate(r *http.Request) (auth.Caller, error) {
	for _, by := range []func(context.Context, *http.Request) (auth.Caller, error){
		bySocket,
		d.byCertificate,
		d.bySession,
	} {
		c, err := by(r.Context(), r)
		if err != nil {
			return auth.Caller{}, err
		}
		if c.Protocol != "" {
			proven(r.Context(), c)
			return c, nil
		}
	}
	return auth.Caller{Address: r.RemoteAddr}, nil
}

// bySocket: whoever can open the socket administers the server; its mode is the
// permission.
func bySocket(ctx context.Context, _ *http.Request) (auth.Caller, error) {
	cred, ok := ctx.Value(peerKey{}).(*unix.Ucred)
	if !ok {
		return auth.Caller{}, nil
	}
	return auth.Caller{Protocol: "unix", Username: username(cred.Uid), Address: "@", Admin: true}, nil
}

// byCertificate: the handshake has proven that the client owns the certificate; who
// that is the trust store says.
func (d *Daemon) byCertificate(ctx context.Context, r *http.Request) (auth.Caller, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return auth.Caller{}, nil
	}
	// A browser shows its certificate to whatever page makes it send a request.
	if ui.OtherSite(r) {
		return auth.Caller{}, errs.Forbidden("Requests of other sites are not taken from a browser")
	}
	leaf := r.TLS.PeerCertificates[0]
	if p, ok := d.own.cluster.Recognise(keypair.Fingerprint(leaf)); ok {
		return auth.Caller{Protocol: auth.Cluster, Username: p.Name, Address: r.RemoteAddr, Admin: true}, nil
	}
	c := d.own.certificates.Trust().Caller(ctx, leaf, r.RemoteAddr)
	if c.Protocol != "" && c.Protocol != auth.Cluster {
		return c, nil
	}
	// Who is a member, those know who form the cluster.
	if p, ok := d.own.members.Recognise(ctx, keypair.Fingerprint(leaf)); ok {
		return auth.Caller{Protocol: auth.Cluster, Username: p.Name, Address: r.RemoteAddr, Admin: true}, nil
	}
	return auth.Caller{Address: r.RemoteAddr}, nil
}

// bySession: the cookie of a browser that was logged in.
func (d *Daemon) bySession(_ context.Context, r *http.Request) (auth.Caller, error) {
	return d.own.ui.Authenticate(r)
}
