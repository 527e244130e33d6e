package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// GetRemoteCertificate returns the certificate that a server shows, and whether
// the system's authorities vouch for it. Nothing else of the server is believed: the
// caller compares the fingerprint with what it knows, and pins the certificate by
// ConnectionArgs.TLSServerCert.
func GetRemoteCertificate(ctx context.Context, address string, args *ConnectionArgs) (cert *x509.Certificate, vouched bool, err error) {
	proxy := http.ProxyFromEnvironment
	if args != nil && args.Proxy != nil {
		proxy = args.Proxy
	}
	t := &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}, Proxy: proxy,
		TLSHandshakeTimeout: handshake, ResponseHeaderTimeout: handshake, DialContext: (&net.Dialer{Timeout: handshake}).DialContext,
	}
	defer t.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 3*handshake)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, false, err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return nil, false, fmt.Errorf("Unable to connect to %s: %w", address, err)
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
	if resp.TLS == nil || len(resp.TLS.PeerCertificates) == 0 {
		return nil, false, errors.New("Server shows no certificate")
	}
	chain := resp.TLS.PeerCertificates
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err = chain[0].Verify(x509.VerifyOptions{DNSName: req.URL.Hostname(), Intermediates: between})
	return chain[0], err == nil, nil
}
