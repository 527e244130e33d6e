package file

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// gate lets SSH clients in that know a word made for this one run.
type gate struct {
	user, password string
	conf           *ssh.ServerConfig
}

func newGate(user string, open bool) (*gate, error) {
	g := &gate{user: user}
	if g.user == "" {
		g.user = word(5)
	}
	g.password = word(10)
	g.conf = &ssh.ServerConfig{NoClientAuth: open, MaxAuthTries: 3}
	if !open {
		g.conf.PasswordCallback = func(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			// Both are compared, however the first one ends.
			u := subtle.ConstantTimeCompare([]byte(c.User()), []byte(g.user))
			p := subtle.ConstantTimeCompare(password, []byte(g.password))
			if u&p != 1 {
				return nil, errors.New("wrong user or password")
			}
			return &ssh.Permissions{}, nil
		}
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, err
	}
	g.conf.AddHostKey(signer)
	return g, nil
}

func word(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// handshake is how long a client may take to log in.
const handshake = 30 * time.Second

// serve takes clients until ctx ends, and waits for them to be gone. dial opens SFTP
// connections; failed is told what went wrong with a client.
func (g *gate) serve(ctx context.Context, l net.Listener, dial func() (io.ReadWriteCloser, error), failed func(error)) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() { _ = conn.Close() }()
			end := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer end()
			if err := g.client(conn, dial); err != nil && ctx.Err() == nil {
				failed(err)
			}
		}()
	}
}

func (g *gate) client(conn net.Conn, dial func() (io.ReadWriteCloser, error)) error {
	if err := conn.SetDeadline(time.Now().Add(handshake)); err != nil {
		return err
	}
	_, channels, requests, err := ssh.NewServerConn(conn, g.conf)
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	go ssh.DiscardRequests(requests)
	var wg sync.WaitGroup
	defer wg.Wait()
	for c := range channels {
		if c.ChannelType() != "session" {
			_ = c.Reject(ssh.UnknownChannelType, "only sessions of SFTP are here")
			continue
		}
		ch, asked, err := c.Accept()
		if err != nil {
			return err
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			session(ch, asked, dial)
		}()
	}
	return nil
}

// session serves the one subsystem that there is.
func session(ch ssh.Channel, asked <-chan *ssh.Request, dial func() (io.ReadWriteCloser, error)) {
	defer func() { _ = ch.Close() }()
	for r := range asked {
		var what struct{ Name string }
		ok := r.Type == "subsystem" && ssh.Unmarshal(r.Payload, &what) == nil && what.Name == "sftp"
		if !ok {
			_ = r.Reply(false, nil)
			continue
		}
		server, err := dial()
		if err != nil {
			_ = r.Reply(false, nil)
			return
		}
		_ = r.Reply(true, nil)
		go ssh.DiscardRequests(asked)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(server, ch)
			_ = server.Close()
		}()
		_, _ = io.Copy(ch, server)
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{}))
		_ = ch.Close()
		<-done
		return
	}
}
