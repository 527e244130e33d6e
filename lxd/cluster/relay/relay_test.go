package relay_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sett/lxd/auth"
	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/shared/errs"
)

var who = relay.Identity{Caller: auth.Caller{Protocol: "tls", Username: "abc", Address: "10.0.0.9:1", Projects: []string{"web"}}, Request: "r1"}

// pair is a member behind another one: what comes to front is relayed to the handler.
func pair(t *testing.T, h http.HandlerFunc, change ...func(*relay.Target)) (front *httptest.Server, failed *atomic.Pointer[error]) {
	t.Helper()
	back := httptest.NewServer(h)
	t.Cleanup(back.Close)
	u, err := url.Parse(back.URL)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	to := relay.Target{Name: "m2", URL: u, Via: tr}
	for _, f := range change {
		f(&to)
	}
	failed = &atomic.Pointer[error]{}
	front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := to.Forward(w, r, who, slog.New(slog.DiscardHandler)); err != nil {
			failed.Store(&err)
			http.Error(w, err.Error(), errs.Status(err))
		}
	}))
	t.Cleanup(front.Close)
	return front, failed
}

func TestRequestsArriveAsTheyWere(t *testing.T) {
	t.Parallel()
	body := make([]byte, 3<<20)
	_, _ = rand.Read(body)
	front, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("the body did not arrive: %d bytes, %v", len(got), err)
		}
		if r.Method != "POST" || r.URL.RequestURI() != "/1.0/files/a%2Fb?path=%2Fetc%2Fx&project=web" || r.Header.Get("X-LXD-mode") != "0644" {
			t.Errorf("got %s %s %v", r.Method, r.URL.RequestURI(), r.Header)
		}
		if r.Header.Get("Cookie") != "" || r.Header.Get("Authorization") != "" {
			t.Error("secrets of the client went along")
		}
		i, ok, err := relay.Read(r.Header)
		if err != nil || !ok || !reflect.DeepEqual(i, who) {
			t.Errorf("who stands behind it: %+v %v %v", i, ok, err)
		}
		w.Header().Set("ETag", `"x"`)
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(body[:1<<20])
	})
	req, _ := http.NewRequestWithContext(t.Context(), "POST", front.URL+"/1.0/files/a%2Fb?path=%2Fetc%2Fx&project=web", bytes.NewReader(body))
	req.Header.Set("X-LXD-mode", "0644")
	req.Header.Set("Cookie", "session=1")
	req.Header.Set("Authorization", "Bearer x")
	req.Header.Set("X-LXD-Forwarded-Caller", `{"Admin":true}`) // forged, and replaced
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusTeapot || resp.Header.Get("ETag") != `"x"` || !bytes.Equal(got, body[:1<<20]) {
		t.Errorf("got %s, %d bytes, %v", resp.Status, len(got), err)
	}
}

func TestAnswersAreNotHeldBack(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	front, _ := pair(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "first\n")
		w.(http.Flusher).Flush()
		<-goOn
		_, _ = io.WriteString(w, "second\n")
	})
	resp, err := http.Get(front.URL) //nolint:noctx // ends with the test's server
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	br := bufio.NewReader(resp.Body)
	if l, err := br.ReadString('\n'); l != "first\n" || err != nil {
		t.Fatalf("got %q %v", l, err)
	}
	close(goOn)
	if l, err := br.ReadString('\n'); l != "second\n" || err != nil {
		t.Fatalf("got %q %v", l, err)
	}
}

func TestWebsocketsGoThrough(t *testing.T) {
	t.Parallel()
	up := websocket.Upgrader{}
	front, _ := pair(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "lxd.example" { // what an Origin is compared with
			t.Errorf("the host became %q", r.Host)
		}
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for {
			k, b, err := c.ReadMessage()
			if err != nil {
				return
			}
			if err := c.WriteMessage(k, append([]byte("echo "), b...)); err != nil {
				return
			}
		}
	})
	d := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return net.Dial("tcp", front.Listener.Addr().String()) }}
	c, _, err := d.DialContext(t.Context(), "ws://lxd.example/1.0/events", http.Header{"Origin": {"http://lxd.example"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 100 {
		if err := c.WriteMessage(websocket.BinaryMessage, fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
		if _, b, err := c.ReadMessage(); err != nil || string(b) != fmt.Sprintf("echo %d", i) {
			t.Fatalf("got %q %v", b, err)
		}
	}
}

// TestUpgradesEndOneWayAtATime is what SFTP and the like need: the client has said
// all, and still reads.
func TestUpgradesEndOneWayAtATime(t *testing.T) {
	t.Parallel()
	front, _ := pair(t, func(w http.ResponseWriter, _ *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: sftp\r\n\r\n")
		_ = rw.Flush()
		all, err := io.ReadAll(rw) // to the end of what the client sends
		if err != nil {
			t.Error(err)
		}
		_, _ = c.Write([]byte(strings.ToUpper(string(all))))
	})
	c, err := net.Dial("tcp", front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The first words follow the request at once, before the answer.
	_, err = io.WriteString(c, "GET /1.0/instances/c1/sftp HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: sftp\r\n\r\nearly ")
	if err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v %v", resp, err)
	}
	_, _ = io.WriteString(c, "and late")
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(br); err != nil || string(b) != "EARLY AND LATE" {
		t.Errorf("got %q %v", b, err)
	}
}

// TestAWrongGuessIsNoAnswer has the member refuse what it does not have.
func TestAWrongGuessIsNoAnswer(t *testing.T) {
	t.Parallel()
	for _, guessed := range []bool{true, false} {
		front, failed := pair(t, func(w http.ResponseWriter, _ *http.Request) {
			relay.Refuse(w.Header())
			http.Error(w, "not here", http.StatusServiceUnavailable)
		}, func(to *relay.Target) { to.Guessed = guessed })
		resp, err := http.Get(front.URL) //nolint:noctx // ends with the test's server
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		for k := range resp.Header {
			if strings.HasPrefix(k, "X-Lxd-Forwarded-") {
				t.Errorf("the client is told %s", k)
			}
		}
		if guessed {
			if err := failed.Load(); err == nil || !errors.Is(*err, relay.ErrElsewhere) {
				t.Errorf("a wrong guess ends with %v, %s %s", err, resp.Status, b)
			}
		} else if string(b) != "not here\n" || resp.StatusCode != http.StatusServiceUnavailable || failed.Load() != nil {
			t.Errorf("%s %q", resp.Status, b)
		}
	}
}

func TestADeadMemberIsNamed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close() // nobody is there any more
	front, _ := pair(t, nil, func(to *relay.Target) { to.URL = &url.URL{Scheme: "http", Host: l.Addr().String()} })
	resp, err := http.Get(front.URL) //nolint:noctx // ends with the test's server
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(b), `"m2"`) || strings.Contains(string(b), "http://") {
		t.Errorf("got %s %s", resp.Status, b)
	}
}

func TestAMemberThatDiesWhileItIsWaitedForIsGivenUp(t *testing.T) {
	t.Parallel()
	var alive atomic.Bool
	alive.Store(true)
	back := make(chan struct{})
	front, failed := pair(t, func(_ http.ResponseWriter, r *http.Request) {
		alive.Store(false) // it has the request, and says nothing more
		<-r.Context().Done()
		close(back)
	}, func(to *relay.Target) { to.Alive = alive.Load })
	resp, err := http.Get(front.URL) //nolint:noctx // ends with the test's server
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	<-back
	if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains((*failed.Load()).Error(), "sign of life") {
		t.Errorf("got %s %v", resp.Status, *failed.Load())
	}
	// The next one is not even tried.
	resp, err = http.Get(front.URL) //nolint:noctx // ends with the test's server
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("got %s", resp.Status)
	}
}

func TestAClientThatLeavesEndsTheRequestThere(t *testing.T) {
	t.Parallel()
	began, ended := make(chan struct{}), make(chan struct{})
	front, _ := pair(t, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(ended)
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "GET", front.URL, nil)
	go func() { <-began; cancel() }()
	if _, err := http.DefaultClient.Do(req); !errors.Is(err, context.Canceled) { //nolint:bodyclose // there is none
		t.Errorf("got %v", err)
	}
	<-ended
}

func TestCallsKeepTheKindOfErrors(t *testing.T) {
	t.Parallel()
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/1.0/gone":
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"type":"error","error_code":404,"error":"Thing not found"}`)
		case "/1.0/page":
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "<html>")
		default:
			_, _ = io.WriteString(w, `{"type":"sync","metadata":{"name":"x"}}`)
		}
	}))
	defer back.Close()
	u, _ := url.Parse(back.URL)
	to := relay.Target{Name: "m2", URL: u, Via: http.DefaultTransport}
	var out struct{ Name string }
	if err := to.Call(t.Context(), relay.Request{Method: "GET", Path: "/1.0/thing", As: &who}, &out); err != nil || out.Name != "x" {
		t.Errorf("got %+v %v", out, err)
	}
	if err := to.Call(t.Context(), relay.Request{Method: "GET", Path: "/1.0/gone"}, nil); errs.Status(err) != 404 || err.Error() != "Thing not found" {
		t.Errorf("got %v", err)
	}
	if err := to.Call(t.Context(), relay.Request{Method: "GET", Path: "/1.0/page"}, nil); errs.Status(err) != 503 || !strings.Contains(err.Error(), `"m2"`) {
		t.Errorf("got %v", err)
	}
}

func TestGatherWaitsForNobodyTooLong(t *testing.T) {
	t.Parallel()
	stuck := make(chan struct{})
	defer close(stuck)
	via := func(m cluster.Member) http.RoundTripper {
		return trip(func(r *http.Request) (*http.Response, error) {
			if m.Name == "slow" {
				select {
				case <-r.Context().Done():
					return nil, r.Context().Err()
				case <-stuck:
				}
			}
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"metadata":"` + m.Name + `"}`))}, nil
		})
	}
	here := cluster.Alone()
	here.Set(cluster.Member{ID: 1, Name: "me"})
	r := relay.Over(cluster.New(cluster.Options{Here: here}), via)
	as := relay.Gather[string](t.Context(), r, []cluster.Member{{ID: 2, Name: "fast"}, {ID: 3, Name: "slow"}}, 50*time.Millisecond,
		relay.Request{Method: "GET", Path: "/1.0/x"})
	if as[0].Err != nil || as[0].Value != "fast" {
		t.Errorf("got %+v", as[0])
	}
	if errs.Status(as[1].Err) != 503 || !strings.Contains(as[1].Err.Error(), "slow") {
		t.Errorf("got %+v", as[1])
	}
}

func TestMembersThatAreOutOfReachAreNotAsked(t *testing.T) {
	t.Parallel()
	here := cluster.Alone()
	here.Set(cluster.Member{ID: 1, Name: "me"})
	asked := 0
	r := relay.Over(cluster.New(cluster.Options{Here: here}), func(cluster.Member) http.RoundTripper {
		return trip(func(*http.Request) (*http.Response, error) {
			asked++
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"metadata":"x"}`))}, nil
		})
	})
	m := cluster.Member{ID: 2, Name: "m2", Address: "10.0.0.2:8443"}
	ask := func() error {
		return relay.Gather[string](t.Context(), r, []cluster.Member{m}, time.Second, relay.Request{Method: "GET", Path: "/1.0/x"})[0].Err
	}
	r.Lost(m.Address)
	if err := ask(); errs.Status(err) != 503 || !strings.Contains(err.Error(), `"m2"`) || asked != 0 || r.Reachable(m) {
		t.Errorf("asked %d times: %v", asked, err)
	}
	r.Found(m.Address)
	if err := ask(); err != nil || asked != 1 || !r.Reachable(m) {
		t.Errorf("asked %d times: %v", asked, err)
	}
	// An error names its member once.
	err := relay.Join([]cluster.MemberError{{Member: m, Err: errs.NotFound("Pool not found")}})
	if err == nil || !strings.Contains(err.Error(), "m2: Pool not found") || errs.Status(err) != 404 {
		t.Errorf("got %v", err)
	}
	r.Lost(m.Address)
	if err := relay.Join([]cluster.MemberError{{Member: m, Err: ask()}}); strings.Count(err.Error(), "m2") != 1 {
		t.Errorf("got %v", err)
	}
}

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestOwnCallsGiveADeadMemberUp has a member hang in the middle of its answer.
func TestOwnCallsGiveADeadMemberUp(t *testing.T) {
	t.Parallel()
	var alive atomic.Bool
	alive.Store(true)
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		alive.Store(false)
		<-r.Context().Done()
	}))
	t.Cleanup(back.Close)
	u, err := url.Parse(back.URL)
	if err != nil {
		t.Fatal(err)
	}
	to := relay.Target{Name: "m2", URL: u, Via: &http.Transport{}, Alive: alive.Load}
	resp, err := to.Open(t.Context(), relay.Request{Method: http.MethodGet, Path: "/x"})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err == nil || !strings.Contains(err.Error(), "sign of life") {
		t.Errorf("got %q %v", b, err)
	}
}
