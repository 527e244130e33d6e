package ui

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sett/lxd/auth"
	"sett/lxd/db/dbtest"
	"sett/shared/errs"
)

// people stand in for whoever may call the API.
type people map[string]auth.Caller

func (p people) now(_ context.Context, protocol, username string) (auth.Caller, bool) {
	c, ok := p[protocol+" "+username]
	return c, ok
}

func service(t *testing.T, p people) *Service {
	t.Helper()
	return New(Deps{DB: dbtest.Open(t), Log: slog.New(slog.DiscardHandler), Caller: p.now, Name: "test", Server: func() string { return "test" },
		URLs: func(context.Context) []string { return []string{"https://10.0.0.1:8443/ui/"} }})
}

func login(t *testing.T, s *Service, c auth.Caller) (Session, string) {
	t.Helper()
	l, err := s.Link(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	x, text, err := s.Login(t.Context(), l.Token, "", "10.0.0.2:1", "test")
	if err != nil {
		t.Fatal(err)
	}
	return x, text
}

// open adds a connection to a session and returns its other end.
func open(t *testing.T, s *Service, text string) net.Conn {
	t.Helper()
	here, there := net.Pipe()
	c := s.live.add(hashOf(text), here)
	t.Cleanup(func() { _ = c.Close(); _ = there.Close() })
	return there
}

func closed(t *testing.T, c net.Conn) bool {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(-time.Second)) // only what has happened counts
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

func TestWebsocketsEndWhenSessionsOrRightsDo(t *testing.T) {
	t.Parallel()
	root, bob := auth.Caller{Protocol: "unix", Username: "root", Admin: true}, auth.Caller{Protocol: "tls", Username: "bob", Projects: []string{"p"}}
	p := people{"unix root": root, "tls bob": bob}
	s := service(t, p)
	_, one := login(t, s, root)
	_, two := login(t, s, bob)
	a, b := open(t, s, one), open(t, s, two)
	if err := s.Check(t.Context()); err != nil || closed(t, a) || closed(t, b) {
		t.Fatal("good sessions have lost their websockets", err)
	}
	delete(p, "tls bob")
	if err := s.Check(t.Context()); err != nil || closed(t, a) || !closed(t, b) {
		t.Error("a session whose owner is not trusted any more keeps its websocket", err)
	}
	s.SetClock(func() time.Time { return time.Now().Add(sessionLife + time.Minute) })
	if err := s.Check(t.Context()); err != nil || !closed(t, a) {
		t.Error("a session that is over keeps its websocket", err)
	}
	if left := s.live.hashes(); len(left) != 0 {
		t.Error("closed connections are remembered:", left)
	}
}

func TestOnlyThoseWhoCanBeLookedUpGetLinks(t *testing.T) {
	t.Parallel()
	s := service(t, people{})
	if _, err := s.Link(t.Context(), auth.Caller{Protocol: "cluster", Username: "x", Admin: true}); !errs.Is(err, errs.KindForbidden) {
		t.Errorf("a member got a link: %v", err)
	}
}

func TestLinkIsWorthNothingOnceItsMakerIsNotTrusted(t *testing.T) {
	t.Parallel()
	bob := auth.Caller{Protocol: "tls", Username: "bob"}
	p := people{"tls bob": bob}
	s := service(t, p)
	l, err := s.Link(t.Context(), bob)
	if err != nil {
		t.Fatal(err)
	}
	delete(p, "tls bob")
	if _, _, err := s.Login(t.Context(), l.Token, "", "", ""); !errs.Is(err, errs.KindForbidden) {
		t.Errorf("the login answers %v", err)
	}
}

func TestSessionsAreShownToTheirOwnersAndAdmins(t *testing.T) {
	t.Parallel()
	root, bob := auth.Caller{Protocol: "unix", Username: "root", Admin: true}, auth.Caller{Protocol: "tls", Username: "bob"}
	s := service(t, people{"unix root": root, "tls bob": bob})
	login(t, s, root)
	login(t, s, bob)
	for _, c := range []struct {
		who  auth.Caller
		want int
	}{{root, 2}, {bob, 1}, {auth.Caller{Protocol: "tls", Username: "eve"}, 0}} {
		if got, err := s.Sessions(t.Context(), c.who); err != nil || len(got) != c.want {
			t.Errorf("%s sees %d sessions, want %d (%v)", c.who.Username, len(got), c.want, err)
		}
	}
}

func TestOldestSessionMakesRoom(t *testing.T) {
	t.Parallel()
	root := auth.Caller{Protocol: "unix", Username: "root", Admin: true}
	s := service(t, people{"unix root": root})
	now := time.Now()
	s.SetClock(func() time.Time { now = now.Add(time.Second); return now })
	first, _ := login(t, s, root)
	for range mostSessions {
		login(t, s, root)
	}
	all, err := s.Sessions(t.Context(), root)
	if err != nil || len(all) != mostSessions || all[0].UUID == first.UUID {
		t.Errorf("%d sessions, the first still there: %v (%v)", len(all), all[0].UUID == first.UUID, err)
	}
}

func TestUnusedLinksAreBounded(t *testing.T) {
	t.Parallel()
	root := auth.Caller{Protocol: "unix", Username: "root", Admin: true}
	s := service(t, people{"unix root": root})
	for range mostLinks {
		if _, err := s.Link(t.Context(), root); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Link(t.Context(), root); !errs.Is(err, errs.KindUnavailable) {
		t.Errorf("one link more: %v", err)
	}
	s.SetClock(func() time.Time { return time.Now().Add(linkLife + time.Second) })
	if _, err := s.Link(t.Context(), root); err != nil {
		t.Errorf("links that are too old take room: %v", err)
	}
}

func TestAssetsAreFoundByTheirPlainNames(t *testing.T) {
	t.Parallel()
	a := load(fstest.MapFS{".keep": {}, "index.html.gz": {Data: []byte("x")}, "assets/a.woff2": {Data: []byte("y")}})
	if len(a.files) != 2 || a.files["index.html"].packed == nil || a.files["index.html"].kind != "text/html; charset=utf-8" || a.files["assets/a.woff2"].plain == nil {
		t.Errorf("the assets are %v", a.files)
	}
}

func TestBrowsersMakeNoPagesOfAnswers(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	service(t, people{}).Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<script>") })).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/1.0/instances/c1/files?path=/x.html", nil))
	if h := w.Header(); h.Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("the headers are %v", h)
	}
}
