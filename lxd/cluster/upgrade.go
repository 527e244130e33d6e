package cluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
)

// transport sends requests to one peer. Those that ask for another protocol get a
// connection each, which could not be used again anyway, and are spared what
// http.Transport does to share one: goroutines that hand each byte on, and large buffers.
// A client waits for several of them in an exec.
type transport struct {
	*http.Transport
	connect func(context.Context) (net.Conn, error)
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Upgrade") == "" || r.Body != nil && r.Body != http.NoBody {
		return t.Transport.RoundTrip(r)
	}
	return upgrade(r, t.connect)
}

// upgrade asks for another protocol over a connection of its own. The request's context
// bounds everything up to the end of the answer; a connection that has become one of the
// other protocol belongs to the caller.
func upgrade(r *http.Request, connect func(context.Context) (net.Conn, error)) (*http.Response, error) {
	ctx := r.Context()
	conn, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	resp, ahead, err := ask(r, conn)
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols && stop() {
		resp.Body = &upgraded{conn, ahead}
		return resp, nil
	}
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err == nil:
		resp.Body = &lastBody{resp.Body, conn, stop}
		return resp, nil
	}
	stop()
	_ = conn.Close()
	return nil, err
}

// ask sends a request and reads the head of the answer; ahead holds what was read of
// what follows it.
func ask(r *http.Request, conn net.Conn) (resp *http.Response, ahead *bufio.Reader, err error) {
	out := bufio.NewWriter(conn)
	if err := r.Write(out); err != nil {
		return nil, nil, err
	}
	if err := out.Flush(); err != nil {
		return nil, nil, err
	}
	head := &io.LimitedReader{R: conn, N: http.DefaultMaxHeaderBytes}
	ahead = bufio.NewReader(head)
	for {
		resp, err = http.ReadResponse(ahead, r)
		if err != nil {
			return nil, nil, fmt.Errorf("no answer to a request for another protocol: %w", err)
		}
		if resp.StatusCode >= http.StatusOK || resp.StatusCode == http.StatusSwitchingProtocols {
			head.N = 1<<63 - 1
			return resp, ahead, nil
		}
	}
}

// upgraded is a connection that speaks another protocol now.
type upgraded struct {
	net.Conn
	ahead *bufio.Reader
}

// Read implements io.Reader.
func (u *upgraded) Read(b []byte) (int, error) {
	if u.ahead.Buffered() > 0 {
		return u.ahead.Read(b)
	}
	return u.Conn.Read(b)
}

// CloseWrite ends one direction.
func (u *upgraded) CloseWrite() error {
	if c, ok := u.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return u.Close()
}

// lastBody is that of an answer after which its connection is not used again.
type lastBody struct {
	io.ReadCloser
	conn net.Conn
	stop func() bool
}

// Close implements io.Closer.
func (b *lastBody) Close() error {
	b.stop()
	_ = b.conn.Close() // first: to close the body reads it to its end
	return b.ReadCloser.Close()
}
