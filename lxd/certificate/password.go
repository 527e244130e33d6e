package certificate

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/scrypt"

	"sett/shared/errs"
	"sett/shared/log"
)

// A password is stored as salt and hash, in hexadecimal.
const (
	saltSize = 32
	hashSize = 64
)

func derive(password string, salt []byte) ([]byte, error) {
	return scrypt.Key([]byte(password), salt, 1<<14, 8, 1, hashSize)
}

// hash is the form in which a password is stored.
func hash(password string) (string, error) {
	salt := make([]byte, saltSize)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	h, err := derive(password, salt)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(append(salt, h...)), nil
}

// matches compares a password with a stored one.
func matches(password, stored string) bool {
	b, err := hex.DecodeString(stored)
	if err != nil || len(b) != saltSize+hashSize {
		return false
	}
	h, err := derive(password, b[:saltSize])
	return err == nil && subtle.ConstantTimeCompare(h, b[saltSize:]) == 1
}

// Guessing is slow: each address has a few attempts and gets another one every few
// seconds, as have all together. Tokens need none of this; nobody guesses 256 bits.
const (
	guesses         = 5
	guessEvery      = 12 * time.Second
	guessesOfAll    = 60
	guessOfAllEvery = 2 * time.Second
)

// bucket holds attempts.
type bucket struct {
	used float64
	at   time.Time
}

// take uses up an attempt; one comes back every refill.
func (b *bucket) take(now time.Time, size int, refill time.Duration) bool {
	b.used = max(0, b.used-float64(now.Sub(b.at))/float64(refill))
	b.at = now
	if b.used+1 > float64(size) {
		return false
	}
	b.used++
	return true
}

// guard bounds how often passwords are tried.
type guard struct {
	now func() time.Time

	turn sync.Mutex // a hash takes much memory: one at a time
	mu   sync.Mutex
	all  bucket
	by   map[netip.Addr]*bucket
}

func newGuard() *guard { return &guard{now: time.Now, by: map[netip.Addr]*bucket{}} }

// try compares a password for somebody at an address.
func (g *guard) try(ctx context.Context, address, password, stored string) error {
	if stored == "" || password == "" {
		return errs.Forbidden("not authorized")
	}
	from := origin(address)
	if !g.allow(from) {
		log.From(ctx).Warn("Somebody tries passwords too fast", "address", address)
		return errs.Forbidden("Too many wrong passwords; wait a minute, or use a token")
	}
	g.turn.Lock()
	defer g.turn.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if !matches(password, stored) {
		log.From(ctx).Warn("Somebody came with a wrong trust password", "address", address)
		return errs.Forbidden("not authorized")
	}
	g.forgive(from)
	return nil
}

func (g *guard) allow(from netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	// Nothing is remembered of those who come while all together have no attempt left,
	// however many they are.
	if !g.all.take(now, guessesOfAll, guessOfAllEvery) {
		return false
	}
	b := g.by[from]
	if b == nil {
		if len(g.by) > 4096 { // those who have not tried for long have all their attempts again
			for a, old := range g.by {
				if now.Sub(old.at) > guesses*guessEvery {
					delete(g.by, a)
				}
			}
		}
		b = &bucket{}
		g.by[from] = b
	}
	if !b.take(now, guesses, guessEvery) {
		g.all.used = max(0, g.all.used-1)
		return false
	}
	return true
}

// forgive gives the attempts of somebody back who has shown to know the password.
func (g *guard) forgive(from netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.by, from)
	g.all.used = max(0, g.all.used-1)
}

// origin is what a guesser cannot have many of: an IPv4 address, or an IPv6 subnet.
func origin(address string) netip.Addr {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Addr{}
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
