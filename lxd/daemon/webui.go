package daemon

import (
	"context"

	"sett/lxd/auth"
	"sett/lxd/db"
	"sett/lxd/ui"
)

// newUI makes the web interface.
func (d *Daemon) newUI(global *db.DB) *ui.Service {
	return ui.New(ui.Deps{DB: global, Log: d.log, Caller: d.callerNow, URLs: d.browserURLs, Name: Name(d.o.Dir),
		Server: func() string { return d.own.identity.Network().Fingerprint()[:12] }})
}

// callerNow looks up who an identity is at this moment: whoever made a login link may
// have lost rights since.
func (d *Daemon) callerNow(ctx context.Context, protocol, username string) (auth.Caller, bool) {
	switch protocol {
	case "unix":
		return auth.Caller{Protocol: protocol, Username: username, Admin: true}, true
	case "tls":
		c := d.own.certificates.Trust().Named(ctx, username)
		return c, c.Protocol == "tls" && !c.Metrics
	}
	return auth.Caller{}, false
}

// browserURLs are where browsers reach this server over the network.
func (d *Daemon) browserURLs(context.Context) []string {
	var out []string
	for _, a := range d.addresses() {
		out = append(out, "https://"+a+"/ui/")
	}
	return out
}
