package ws

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

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

func TestCloseEndsASendThatNobodyReads(t *testing.T) {
	t.Parallel()
	client, _ := pair(t)
	sent := make(chan error, 1)
	go func() { sent <- client.Send(endless{}) }()
	stuck := time.NewTimer(200 * time.Millisecond) // the buffers of both sides are full by then
	defer stuck.Stop()
	<-stuck.C
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if err := <-sent; err == nil {
		t.Error("all was sent")
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

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

// waiting says when it is about to wait, as connections of the daemon do.
type waiting struct {
	net.Conn
	f func()
}

func (w *waiting) BeforeRead(f func()) { w.f = f }

func (w *waiting) Read(b []byte) (int, error) {
	if w.f != nil {
		w.f()
	}
	return w.Conn.Read(b)
}

type waitingListener struct{ net.Listener }

func (l waitingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &waiting{Conn: c}, err
}

// chunks tells of each write.
type chunks chan string

func (c chunks) Write(b []byte) (int, error) {
	c <- string(b)
	return len(b), nil
}

// pulled starts a Pull on a websocket whose connection says when it waits.
func pulled(t *testing.T, w io.Writer) (client *websocket.Conn, ended chan error) {
	t.Helper()
	ended = make(chan error, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		up := websocket.Upgrader{ReadBufferSize: 32 << 10}
		c, err := up.Upgrade(rw, r, nil)
		if err != nil {
			ended <- err
			return
		}
		ended <- Pull(c, w)
		_ = c.Close()
	}))
	srv.Listener = waitingListener{srv.Listener}
	srv.Start()
	t.Cleanup(srv.Close)
	client, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(srv.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client, ended
}

func TestFramesAreWrittenTogetherAndNeverHeldBack(t *testing.T) {
	t.Parallel()
	got := make(chunks)
	client, ended := pulled(t, got)
	// Each piece comes although nothing follows it.
	for _, s := range []string{"a", "bc", strings.Repeat("d", 5000)} {
		if err := client.WriteMessage(websocket.BinaryMessage, []byte(s)); err != nil {
			t.Fatal(err)
		}
		for left := s; left != ""; {
			c := <-got
			if !strings.HasPrefix(left, c) {
				t.Fatalf("got %d bytes that were not sent", len(c))
			}
			left = left[len(c):]
		}
	}
	// While the writer is busy more comes, which goes in few writes.
	const frames, size = 128, 1000
	sent := make(chan error, 1)
	go func() {
		for range frames {
			if err := client.WriteMessage(websocket.BinaryMessage, make([]byte, size)); err != nil {
				sent <- err
				return
			}
		}
		sent <- End(client)
	}()
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	n, writes := 0, 0
	for n < frames*size {
		n += len(<-got)
		writes++
	}
	if n != frames*size || writes > frames/2 {
		t.Errorf("%d bytes of %d frames came in %d writes", n, frames, writes)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWriterThatFailsEndsThePull(t *testing.T) {
	t.Parallel()
	client, ended := pulled(t, failing{})
	go func() { // the first failure may show only when more comes
		for client.WriteMessage(websocket.BinaryMessage, []byte("x")) == nil {
		}
	}()
	var failed *WriteError
	if err := <-ended; !errors.As(err, &failed) {
		t.Errorf("got %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no") }
