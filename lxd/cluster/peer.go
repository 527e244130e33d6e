package cluster

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/pem"
	"io"
	"slices"

	"sett/shared/errs"
)

// ServerName is what a member asks for when it calls another one. The listener then
// shows the member's own certificate; everybody else sees the one that all members
// share, and whose key a member that was removed still has.
const ServerName = "member.sett"

// Identity is a certificate with its key, in PEM.
type Identity interface {
	// Own returns this member's own certificate (server.crt).
	Own() (*tls.Certificate, error)
}

// Peer is what is known of a member without the database: enough to call it, and to
// recognise it when it calls.
type Peer struct {
	Name        string `json:"name"`
	Address     string `json:"address"`
	Certificate string `json:"certificate"` // its own, in PEM
}

// Fingerprint is the SHA-256 of the peer's certificate, empty when it has none.
func (p Peer) Fingerprint() string { return Fingerprint(p.Certificate) }

// Fingerprint is the SHA-256 of a certificate in PEM; empty when it is none.
func Fingerprint(certificate string) string {
	b, _ := pem.Decode([]byte(certificate))
	if b == nil || b.Type != "CERTIFICATE" {
		return ""
	}
	sum := sha256.Sum256(b.Bytes)
	return hex.EncodeToString(sum[:])
}

// SetPeers replaces what is known of the members.
func (c *Cluster) SetPeers(all []Peer) {
	defer c.o.Here.turn() // when the lock is free: who hears of it asks
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peers = slices.Clone(all)
	for k := range c.sessions {
		if !slices.ContainsFunc(all, func(p Peer) bool { return clientKey(p) == k }) {
			delete(c.sessions, k)
		}
	}
	for k, cl := range c.clients {
		if !slices.ContainsFunc(all, func(p Peer) bool { return clientKey(p) == k }) {
			cl.CloseIdleConnections()
			delete(c.clients, k)
			c.spares[k].close()
			delete(c.spares, k)
		}
	}
	for conn, fingerprint := range c.held {
		if !slices.ContainsFunc(all, func(p Peer) bool { return p.Fingerprint() == fingerprint }) {
			delete(c.held, conn)
			_ = conn.Close()
		}
	}
}

// Track keeps a connection that a member has opened for as long as it is one: whoever
// is removed loses it. ok is false when it is none any more. done ends the watch.
func (c *Cluster) Track(fingerprint string, conn io.Closer) (done func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.ContainsFunc(c.peers, func(p Peer) bool { return p.Fingerprint() == fingerprint }) {
		return nil, false
	}
	c.held[conn] = fingerprint
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.held, conn)
	}, true
}

// Peers lists what is known of the members.
func (c *Cluster) Peers() []Peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.peers)
}

// Recognise finds the member that showed a certificate.
func (c *Cluster) Recognise(fingerprint string) (Peer, bool) {
	if fingerprint == "" {
		return Peer{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.peers {
		if p.Fingerprint() == fingerprint {
			return p, true
		}
	}
	return Peer{}, false
}

func (c *Cluster) peerAt(address string) (Peer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.peers {
		if p.Address == address {
			return p, nil
		}
	}
	return Peer{}, errs.Unavailable("No cluster member with the address %s is known", address)
}
