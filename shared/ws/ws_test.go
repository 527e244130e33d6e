package ws

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// pair returns both ends of a websocket.
func pair(t *testing.T) (client, server *Conn) {
	t.Helper()
	got := make(chan *Conn, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		up := websocket.Upgrader{}
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			close(got)
			return
		}
		got <- New(c)
	}))
	t.Cleanup(srv.Close)
	c, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(srv.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	client, server = New(c), <-got
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	return client, server
}

func TestStreamEndsWhileTheOtherWayGoesOn(t *testing.T) {
	t.Parallel()
	client, server := pair(t)
	in := strings.Repeat("sett", 50_000)
	sent := make(chan error, 1)
	go func() { sent <- client.Send(strings.NewReader(in)) }()
	var got bytes.Buffer
	if err := server.Receive(&got); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if got.String() != in {
		t.Errorf("got %d bytes, want %d", got.Len(), len(in))
	}
	go func() { sent <- server.Send(strings.NewReader("answer")) }()
	got.Reset()
	if err := client.Receive(&got); err != nil || got.String() != "answer" {
		t.Errorf("%q, %v", got.String(), err)
	}
	<-sent
}

func TestBrokenReaderStillEndsTheStream(t *testing.T) {
	t.Parallel()
	client, server := pair(t)
	broken := errors.New("broken")
	sent := make(chan error, 1)
	go func() { sent <- client.Send(io.MultiReader(strings.NewReader("a"), errReader{broken})) }()
	var got bytes.Buffer
	if err := server.Receive(&got); err != nil || got.String() != "a" {
		t.Errorf("%q, %v", got.String(), err)
	}
	if err := <-sent; !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

func TestGoodbyeIsNoError(t *testing.T) {
	t.Parallel()
	client, server := pair(t)
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if err := server.Receive(io.Discard); err != nil {
		t.Error(err)
	}
}

func TestVanishedPeerIsAnError(t *testing.T) {
	t.Parallel()
	client, server := pair(t)
	if err := client.Conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := server.Receive(io.Discard); err == nil {
		t.Error("a peer that vanishes is not the end of a stream")
	}
}
