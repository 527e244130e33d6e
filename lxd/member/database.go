package member

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/rest"
	"sett/shared/errs"
	"sett/shared/keypair"
)

// upgradeTo is what members ask for on pathDatabase.
const upgradeTo = "dqlite"

// Dial opens a connection to the database of the member at an address. It is what
// the database's own node calls.
func Dial(ctx context.Context, c *cluster.Cluster, address string) (net.Conn, error) {
	conn, err := c.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cluster.DialTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	br, err := askDatabase(conn, address)
	if err != nil {
		_ = conn.Close()
		return nil, errs.Wrap(errs.KindUnavailable, err)
	}
	if !stop() {
		_ = conn.Close()
		return nil, context.Cause(ctx)
	}
	return &buffered{Conn: conn, r: br}, nil
}

func askDatabase(conn net.Conn, address string) (*bufio.Reader, error) {
	req, err := http.NewRequest(http.MethodGet, "https://"+address+pathDatabase, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Upgrade", upgradeTo)
	req.Header.Set("Connection", "Upgrade")
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	br := bufio.NewReaderSize(conn, 512)
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		_ = resp.Body.Close()
		return nil, errs.FromStatus(resp.StatusCode, "The member at "+address+" does not let us into its database: "+strings.TrimSpace(string(b)))
	}
	return br, nil
}

// buffered is a connection of which some was read already.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) {
	if b.r != nil {
		if b.r.Buffered() > 0 {
			return b.r.Read(p)
		}
		b.r = nil
	}
	return b.Conn.Read(p)
}

// database hands a member's connection to this member's node of the database.
func (s *Service) database(_ context.Context, r *rest.Request) (rest.Response, error) {
	hr := r.HTTP()
	if !strings.EqualFold(hr.Header.Get("Upgrade"), upgradeTo) {
		return nil, errs.Invalid("This is for members of the cluster, which ask for an upgrade to %s", upgradeTo)
	}
	if hr.TLS == nil || len(hr.TLS.PeerCertificates) == 0 {
		return nil, errs.Forbidden("not authorized")
	}
	fingerprint := keypair.Fingerprint(hr.TLS.PeerCertificates[0])
	return rest.Raw(func(w http.ResponseWriter, _ *http.Request) error {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return err
		}
		cluster.NoticeSilence(conn)
		_ = conn.SetDeadline(time.Time{})
		if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: "+upgradeTo+"\r\nConnection: Upgrade\r\n\r\n"); err != nil {
			_ = conn.Close()
			return nil
		}
		done, ok := s.Cluster.Track(fingerprint, conn)
		if !ok { // it was removed a moment ago
			_ = conn.Close()
			return nil
		}
		defer done()
		var c net.Conn = conn
		if rw.Reader.Buffered() > 0 {
			c = &buffered{Conn: conn, r: rw.Reader}
		}
		if err := s.Store.Node().Serve(c); err != nil {
			s.Log.Debug("A member's connection to the database failed", "err", err)
		}
		return nil
	}), nil
}
