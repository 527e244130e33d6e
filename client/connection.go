package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"sett/shared/version"
)

// handshake bounds dialling; requests themselves end with their context.
const handshake = 10 * time.Second

// ConnectionArgs are the options of a connection.
type ConnectionArgs struct {
	TLSServerCert      string // PEM of the certificate that the server must show; empty: the system's authorities decide
	TLSClientCert      string // PEM of the certificate that this client shows
	TLSClientKey       string // PEM of its key
	TLSCA              string // PEM of the authority that signs the server's certificate
	InsecureSkipVerify bool   // Trust any server; only for fetching its certificate

	UserAgent     string
	SkipGetServer bool         // Do not ask for GET /1.0 while connecting
	Logger        *slog.Logger // Told about every request, at level debug
	Proxy         func(*http.Request) (*url.URL, error)
}

// ConnectLXDUnix connects to a local server. An empty path means $LXD_SOCKET or
// unix.socket below $LXD_DIR (/var/lib/lxd).
func ConnectLXDUnix(path string, args *ConnectionArgs) (InstanceServer, error) {
	return ConnectLXDUnixWithContext(context.Background(), path, args)
}

// ConnectLXDUnixWithContext is ConnectLXDUnix; all requests end with ctx.
func ConnectLXDUnixWithContext(ctx context.Context, path string, args *ConnectionArgs) (InstanceServer, error) {
	if path == "" {
		path = os.Getenv("LXD_SOCKET")
	}
	if path == "" {
		dir := os.Getenv("LXD_DIR")
		if dir == "" {
			dir = "/var/lib/lxd"
		}
		path = filepath.Join(dir, "unix.socket")
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	c := newCore("http://unix.socket", args)
	c.socketPath = path
	c.http = &http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true}}
	c.dialer = websocket.Dialer{NetDialContext: dial, HandshakeTimeout: handshake}
	c.sameWay = true
	return c.connect(ctx, args)
}

// ConnectLXD connects to a server over HTTPS.
func ConnectLXD(address string, args *ConnectionArgs) (InstanceServer, error) {
	return ConnectLXDWithContext(context.Background(), address, args)
}

// ConnectLXDWithContext is ConnectLXD; all requests end with ctx.
func ConnectLXDWithContext(ctx context.Context, address string, args *ConnectionArgs) (InstanceServer, error) {
	return connectHTTPS(ctx, address, false, args)
}

// ConnectPublicLXD connects to a server that hands out images to everybody.
func ConnectPublicLXD(address string, args *ConnectionArgs) (ImageServer, error) {
	return connectHTTPS(context.Background(), address, true, args)
}

// ConnectLXDHTTP connects to a server through a given HTTP client; tests and
// programs with a transport of their own use it. The address may be plain HTTP.
func ConnectLXDHTTP(ctx context.Context, address string, client *http.Client, args *ConnectionArgs) (InstanceServer, error) {
	c := newCore(address, args)
	c.http = client
	c.dialer = websocket.Dialer{HandshakeTimeout: handshake}
	if t, ok := client.Transport.(*http.Transport); ok && t != nil {
		c.dialer.NetDialContext, c.dialer.TLSClientConfig = t.DialContext, t.TLSClientConfig
		c.sameWay = t.DialContext != nil
	}
	return c.connect(ctx, args)
}

func connectHTTPS(ctx context.Context, address string, public bool, args *ConnectionArgs) (*ProtocolLXD, error) {
	if args == nil {
		args = &ConnectionArgs{}
	}
	conf, err := tlsConfig(args)
	if err != nil {
		return nil, err
	}
	c := newCore(address, args)
	c.certificate = args.TLSServerCert
	c.anybody.Store(public)
	proxy := args.Proxy
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	t := &http.Transport{
		TLSClientConfig:       conf,
		Proxy:                 proxy,
		TLSHandshakeTimeout:   handshake,
		ExpectContinueTimeout: 30 * time.Second,
		DisableCompression:    true,
		DialContext:           (&net.Dialer{Timeout: handshake}).DialContext,
	}
	c.http = &http.Client{Transport: t}
	c.dialer = websocket.Dialer{TLSClientConfig: conf, Proxy: proxy, NetDialContext: t.DialContext, HandshakeTimeout: handshake}
	c.sameWay = true
	return c.connect(ctx, args)
}

// tlsConfig renders the options. A given server certificate is pinned: it alone
// counts, whatever names and dates it carries, as servers sign their own.
func tlsConfig(args *ConnectionArgs) (*tls.Config, error) {
	conf := &tls.Config{
		MinVersion: tls.VersionTLS12, InsecureSkipVerify: args.InsecureSkipVerify,
		// Each websocket is a connection of its own: signatures are made for the first only.
		ClientSessionCache: tls.NewLRUClientSessionCache(8),
	}
	if args.TLSClientCert != "" {
		pair, err := tls.X509KeyPair([]byte(args.TLSClientCert), []byte(args.TLSClientKey))
		if err != nil {
			return nil, fmt.Errorf("Client certificate is not usable: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	if args.TLSCA != "" {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM([]byte(args.TLSCA)) {
			return nil, errors.New("Certificate authority is not PEM")
		}
	}
	if args.TLSServerCert == "" || args.InsecureSkipVerify {
		return conf, nil
	}
	block, _ := pem.Decode([]byte(args.TLSServerCert))
	if block == nil {
		return nil, errors.New("Server certificate is not PEM")
	}
	want := sha256.Sum256(block.Bytes)
	conf.InsecureSkipVerify = true
	conf.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 || sha256.Sum256(s.PeerCertificates[0].Raw) != want {
			return errors.New("Server shows another certificate than the one that is trusted for it")
		}
		return nil
	}
	return conf, nil
}

func newCore(address string, args *ConnectionArgs) *core {
	c := &core{base: strings.TrimSuffix(address, "/"), userAgent: version.UserAgent, hubs: map[string]*eventHub{}}
	c.log = slog.New(slog.DiscardHandler)
	if args == nil {
		return c
	}
	if args.UserAgent != "" {
		c.userAgent = args.UserAgent
	}
	if args.Logger != nil {
		c.log = args.Logger
	}
	return c
}

func (c *core) connect(ctx context.Context, args *ConnectionArgs) (*ProtocolLXD, error) {
	// What is sent goes in frames of this size, and a write each.
	c.dialer.WriteBufferSize = 32 << 10
	r := &ProtocolLXD{core: c, ctx: ctx}
	if args != nil && args.SkipGetServer {
		return r, nil
	}
	if _, _, err := r.GetServer(); err != nil {
		return nil, err
	}
	return r, nil
}
