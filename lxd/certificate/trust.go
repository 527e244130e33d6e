package certificate

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sett/lxd/auth"
	"sett/shared/log"
)

// Trust is who is trusted, in memory: it is asked for every request that comes over
// the network. It follows the table of certificates.
type Trust struct {
	load func(ctx context.Context) ([]Certificate, error)
	list atomic.Pointer[[]trusted]
	lost func(fingerprints []string) // may be nil

	mu   sync.Mutex // held while the table is read
	last time.Time  // when a stranger was the reason of a read
}

type trusted struct {
	sum  [sha256.Size]byte
	cert Certificate
}

// refreshEvery bounds how often strangers make the table be read: on a cluster
// another member may have taken in a certificate a moment ago.
const refreshEvery = time.Second

// Refresh reads the table again. Whoever changes it calls this, and on a cluster
// tells the other members to.
func (t *Trust) Refresh(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refresh(ctx)
}

// OnLoss is told of certificates that are trusted no more, or for something else than
// before. It is set before the first refresh.
func (t *Trust) OnLoss(f func(fingerprints []string)) { t.lost = f }

// tell finds out who has lost something.
func (t *Trust) tell(old, new []trusted) {
	now := map[[sha256.Size]byte]Certificate{}
	for _, e := range new {
		now[e.sum] = e.cert
	}
	var gone []string
	for _, e := range old {
		c, ok := now[e.sum]
		if !ok || c.Type != e.cert.Type || c.Restricted != e.cert.Restricted || !slices.Equal(c.Projects, e.cert.Projects) {
			gone = append(gone, e.cert.Fingerprint)
		}
	}
	if len(gone) > 0 && t.lost != nil {
		t.lost(gone)
	}
}

func (t *Trust) refresh(ctx context.Context) error {
	cs, err := t.load(ctx)
	if err != nil {
		return err
	}
	list := make([]trusted, 0, len(cs))
	for _, c := range cs {
		b, err := hex.DecodeString(c.Fingerprint)
		if err != nil || len(b) != sha256.Size {
			log.From(ctx).Warn("A trusted certificate has a fingerprint that is none", "certificate", c.Name, "fingerprint", c.Fingerprint)
			continue
		}
		list = append(list, trusted{[sha256.Size]byte(b), c})
	}
	if old := t.list.Swap(&list); old != nil {
		t.tell(*old, list)
	}
	return nil
}

// find compares with all, each in constant time.
func (t *Trust) find(sum [sha256.Size]byte) (c Certificate, ok bool) {
	list := t.list.Load()
	if list == nil {
		return c, false
	}
	for i := range *list {
		e := &(*list)[i]
		if subtle.ConstantTimeCompare(sum[:], e.sum[:]) == 1 {
			c, ok = e.cert, true
		}
	}
	return c, ok
}

// Lookup finds what is known of a certificate that somebody has proven to own.
func (t *Trust) Lookup(ctx context.Context, leaf *x509.Certificate) (Certificate, bool) {
	if now := time.Now(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return Certificate{}, false
	}
	sum := sha256.Sum256(leaf.Raw)
	c, ok := t.find(sum)
	if ok || !t.mu.TryLock() {
		return c, ok
	}
	defer t.mu.Unlock()
	if time.Since(t.last) < refreshEvery {
		return c, false
	}
	t.last = time.Now()
	// Without a database strangers stay strangers, at once.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := t.refresh(ctx); err != nil {
		log.From(ctx).Warn("Could not read the trusted certificates", "err", err)
		return c, false
	}
	return t.find(sum)
}

// Caller says who stands behind a certificate; without a protocol: nobody known.
func (t *Trust) Caller(ctx context.Context, leaf *x509.Certificate, address string) auth.Caller {
	c, ok := t.Lookup(ctx, leaf)
	if !ok {
		return auth.Caller{Address: address}
	}
	return c.caller(address)
}

// Named says who stands behind a certificate that was proven earlier, by its
// fingerprint: what it may do is what it may do now.
func (t *Trust) Named(ctx context.Context, fingerprint string) auth.Caller {
	list := t.list.Load()
	if list == nil {
		return auth.Caller{}
	}
	for _, e := range *list {
		if e.cert.Fingerprint != fingerprint {
			continue
		}
		block, _ := pem.Decode([]byte(e.cert.PEM))
		if block == nil {
			return auth.Caller{}
		}
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return auth.Caller{}
		}
		return t.Caller(ctx, leaf, "")
	}
	return auth.Caller{}
}

func (c Certificate) caller(address string) auth.Caller {
	who := auth.Caller{Protocol: "tls", Username: c.Fingerprint, Address: address}
	switch {
	case c.Type == Server:
		who.Protocol, who.Admin = "cluster", true
	case c.Type == Metrics:
		who.Metrics = true
	case c.Type != Client: // a type of a later version
		return auth.Caller{Address: address}
	case c.Restricted:
		who.Projects = append([]string{}, slices.Clone(c.Projects)...)
	default:
		who.Admin = true
	}
	return who
}
