package daemontest_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sett/lxd/daemontest"
)

// TestSlowStrangersAreCutOff: whoever is not known gets ten seconds for the handshake and
// the headers of a request, and fifteen for its body, however busy they look.
func TestSlowStrangersAreCutOff(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	address := s.Listen()
	const bound = 25 * time.Second
	cases := map[string]struct {
		plain  bool // no TLS around it
		say    string
		drip   string // said again and again, until the other side has had enough
		answer string // what may come before the end
	}{
		"says nothing":           {plain: true},
		"drips a handshake":      {plain: true, say: "\x16\x03\x01\x02\x00\x01", drip: "\x00"},
		"drips headers":          {say: "GET /1.0 HTTP/1.1\r\nHost: x\r\nX-Long: ", drip: "x"},
		"stops in its body":      {say: "POST /1.0/certificates HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{", answer: "HTTP/1.1 4"},
		"drips a body":           {say: "POST /1.0/certificates HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{", drip: " ", answer: "HTTP/1.1 4"},
		"drips to no route":      {say: "POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{", drip: " ", answer: "HTTP/1.1 4"},
		"drips what is not read": {say: "POST /1.0/instances HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{", drip: " ", answer: "HTTP/1.1 4"},
	}
	var wg sync.WaitGroup
	for name, c := range cases {
		wg.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err == nil && !c.plain {
				conn, err = tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			defer conn.Close()
			began := time.Now()
			_ = conn.SetDeadline(began.Add(bound))
			_, _ = io.WriteString(conn, c.say)
			if c.drip != "" {
				stop := make(chan struct{})
				defer close(stop)
				go func() {
					tick := time.NewTicker(200 * time.Millisecond)
					defer tick.Stop()
					for {
						select {
						case <-stop:
							return
						case <-tick.C:
							if _, err := io.WriteString(conn, c.drip); err != nil {
								return
							}
						}
					}
				}()
			}
			got, err := io.ReadAll(conn)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: the connection is open after %s", name, bound)
			}
			if c.answer != "" && !strings.HasPrefix(string(got), c.answer) || c.plain && strings.HasPrefix(string(got), "HTTP") {
				t.Errorf("%s: got %.200q", name, got)
			}
			t.Log(name, time.Since(began).Round(100*time.Millisecond), fmt.Sprintf("%.60q", got))
		})
	}
	wg.Wait()
}

// TestOversizedBodiesAreRefused: a request that is JSON has a limit, for everybody.
func TestOversizedBodiesAreRefused(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	address := s.Listen()
	big := `{"name":"big","description":"` + strings.Repeat("x", 64<<20) + `"}`
	if code, a := s.Do("POST", "/1.0/profiles", big); code < 400 || code >= 500 {
		t.Errorf("a profile of 64 MiB: %d %.200s", code, a.Error)
	}
	// A stranger is not even listened to that long.
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	s.Must(err)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(25 * time.Second))
	_, _ = io.WriteString(conn, "POST /1.0/certificates HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
	sent := 0
	for block := strings.Repeat(" ", 1<<20); sent < 256<<20; sent += len(block) {
		if _, err := io.WriteString(conn, block); err != nil {
			break
		}
	}
	if sent >= 256<<20 {
		t.Errorf("the server took %d MiB of a stranger", sent>>20)
	}
}
