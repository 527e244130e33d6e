package daemon

import (
	"context"
	"net/http"

	"golang.org/x/sys/unix"

	"sett/lxd/auth"
)

// authenticate says who calls. The ways in which somebody can be known are asked one
// after the other; a caller without a protocol is not known, which is no error.
func (d *Daemon) authenticate(r *http.Request) (auth.Caller, error) {
	for _, by := range []func(context.Context, *http.Request) (auth.Caller, error){
		bySocket,
		d.byCertificate,
		// Sessions of browsers belong here.
	} {
		c, err := by(r.Context(), r)
		if err != nil {
			return auth.Caller{}, err
		}
		if c.Protocol != "" {
			proven(r.Context())
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
	return d.own.certificates.Trust().Caller(ctx, r.TLS.PeerCertificates[0], r.RemoteAddr), nil
}
