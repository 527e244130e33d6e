package cluster

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// asked sends a request for another protocol to a peer that does as it is told with the
// connection, once it has read the request.
func asked(t *testing.T, ctx context.Context, peer func(r *http.Request, rd *bufio.Reader, c *net.TCPConn)) (*http.Response, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		rd := bufio.NewReader(c)
		r, err := http.ReadRequest(rd)
		if err != nil {
			t.Error(err)
			return
		}
		peer(r, rd, c.(*net.TCPConn))
	}()
	t.Cleanup(func() { _ = l.Close(); <-over })
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://m2.test:8443/1.0/operations/x/websocket?secret=y", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	shared := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		t.Error("the connection was to be shared")
		return nil, errors.New("no")
	}}
	return (&transport{shared, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	}}).RoundTrip(r)
}

const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

// TestAnUpgradedConnectionLosesNothing has the peer speak before anybody asks, and each
// side end on its own.
func TestAnUpgradedConnectionLosesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	resp, err := asked(t, ctx, func(r *http.Request, rd *bufio.Reader, c *net.TCPConn) {
		if r.Host != "m2.test:8443" || r.URL.RequestURI() != "/1.0/operations/x/websocket?secret=y" || r.Header.Get("Upgrade") != "websocket" {
			t.Errorf("asked %s %s %v", r.Host, r.URL.RequestURI(), r.Header)
		}
		_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\n"+switching+"early ")
		_, _ = io.WriteString(c, "late")
		_ = c.CloseWrite()
		got, err := io.ReadAll(rd)
		if err != nil || string(got) != "from here" {
			t.Errorf("the peer got %q, %v", got, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	cancel() // it was for the request
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp.Status)
	}
	conn := resp.Body.(io.ReadWriteCloser)
	defer conn.Close()
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != "early late" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := io.WriteString(conn, "from here"); err != nil {
		t.Error(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Error(err)
	}
}

// TestARefusedUpgradeIsAnAnswer reads why, and closes the connection.
func TestARefusedUpgradeIsAnAnswer(t *testing.T) {
	t.Parallel()
	resp, err := asked(t, t.Context(), func(_ *http.Request, rd *bufio.Reader, c *net.TCPConn) {
		_, _ = io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone")
		if _, err := rd.ReadByte(); err != io.EOF {
			t.Errorf("the connection is still there: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusNotFound || string(got) != "gone" || err != nil {
		t.Errorf("%s %q %v", resp.Status, got, err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
}

// TestAnUpgradeEndsWithItsRequest gives up a peer that does not answer, at the head and in
// the body, and one that hangs up.
func TestAnUpgradeEndsWithItsRequest(t *testing.T) {
	t.Parallel()
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := asked(t, ctx, func(_ *http.Request, rd *bufio.Reader, _ *net.TCPConn) {
		cancel(enough)
		_, _ = rd.ReadByte() // ends when the other side does
	})
	if !errors.Is(err, enough) {
		t.Errorf("without a head: %v", err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	resp, err := asked(t, ctx, func(_ *http.Request, rd *bufio.Reader, c *net.TCPConn) {
		_, _ = io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\n")
		_, _ = rd.ReadByte()
	})
	if err != nil {
		t.Fatal(err)
	}
	cancel(enough)
	if got, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("half an answer passes for a whole one: %q", got)
	}
	_ = resp.Body.Close()
	_, err = asked(t, t.Context(), func(*http.Request, *bufio.Reader, *net.TCPConn) {})
	if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		t.Errorf("of one that hangs up: %v", err)
	}
	_, err = asked(t, t.Context(), func(_ *http.Request, rd *bufio.Reader, c *net.TCPConn) {
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nA: "+strings.Repeat("a", 2*http.DefaultMaxHeaderBytes))
		_, _ = io.Copy(io.Discard, rd)
	})
	if err == nil {
		t.Error("a head without an end was taken")
	}
}

// TestOtherRequestsShareConnections asks for nothing but an answer, twice.
func TestOtherRequestsShareConnections(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) })}
	go func() { _ = s.Serve(l) }()
	defer s.Close()
	tr := &transport{&http.Transport{}, func(context.Context) (net.Conn, error) {
		t.Error("it got a connection of its own")
		return nil, errors.New("no")
	}}
	defer tr.CloseIdleConnections()
	var from [2]string
	for i := range from {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		from[i] = string(b)
	}
	if from[0] != from[1] {
		t.Errorf("%s and %s", from[0], from[1])
	}
}
