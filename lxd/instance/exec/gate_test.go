package exec

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gorilla/websocket"
)

// stuck runs toClient behind a closed gate until it waits there, and returns the
// client's end.
func stuck(t *testing.T, g *gate, progress *atomic.Int64) *websocket.Conn {
	t.Helper()
	g.hold(true)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var u websocket.Upgrader
		c, err := u.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		toClient(c, strings.NewReader("much"), progress, g)
	}))
	t.Cleanup(srv.Close)
	c, _, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(srv.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	for progress.Load() != 1 { // odd: the client is what it waits for
		runtime.Gosched()
		if t.Context().Err() != nil {
			t.Fatal("nothing was read from the terminal")
		}
	}
	return c
}

func TestHeldOutputComesWhenItIsLetGo(t *testing.T) {
	t.Parallel()
	var g gate
	var progress atomic.Int64
	c := stuck(t, &g, &progress)
	g.hold(true) // twice is once
	g.hold(false)
	if got, whole := read(c); got != "much" || !whole {
		t.Errorf("the client got %q, end mark %v", got, whole)
	}
	g.hold(false)
	g.wait()
}

func TestLostClientHoldsNothingBack(t *testing.T) {
	t.Parallel()
	var g gate
	var progress atomic.Int64
	c := stuck(t, &g, &progress)
	g.open()
	if got, _ := read(c); got != "much" {
		t.Errorf("the client got %q", got)
	}
	g.hold(true)
	g.wait()
}
