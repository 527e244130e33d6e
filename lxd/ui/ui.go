package ui

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"sett/lxd/auth"
	"sett/lxd/db"
	"sett/shared/api"
	"sett/shared/errs"
)

const (
	// linkLife is how long a link waits for its browser.
	linkLife = 2 * time.Minute
	// sessionLife is how long a browser stays logged in.
	sessionLife = 12 * time.Hour
	// mostSessions is how many browsers one identity may have logged in at a time. The
	// oldest goes when one more comes.
	mostSessions = 50
	// mostLinks is how many unused links one identity may have.
	mostLinks = 100
)

// Deps are what the web interface asks others for.
type Deps struct {
	DB  *db.DB
	Log *slog.Logger
	// Caller looks an identity up: who a protocol and a user name stand for now. It
	// returns false for one that may not call any more.
	Caller func(ctx context.Context, protocol, username string) (auth.Caller, bool)
	// URLs are the base URLs of the server's network addresses; none when it has none.
	URLs func(ctx context.Context) []string
	// Name tells daemons of one machine apart, and Server those that are reached over
	// the network; members of a cluster are one server. They go into names of cookies.
	Name   string
	Server func() string
	// Listen makes the listener on loopback; tests replace it.
	Listen func() (net.Listener, error)
}

// Service is the web interface.
type Service struct {
	deps   Deps
	now    func() time.Time
	assets *assets
	live   live

	mu     sync.Mutex
	api    http.Handler // what the listener on loopback serves
	local  *loopback
	closed bool
}

// New makes the web interface.
func New(deps Deps) *Service {
	if deps.Listen == nil {
		deps.Listen = func() (net.Listener, error) { return listenLoopback(deps.Name) }
	}
	return &Service{deps: deps, now: time.Now, assets: embedded()}
}

// SetClock replaces the clock, for tests.
func (s *Service) SetClock(now func() time.Time) { s.now = now }

// secret makes a secret and its hash.
func secret() (text, hash string) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	text = base64.RawURLEncoding.EncodeToString(b[:])
	return text, hashOf(text)
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func sameHash(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// Link makes a link for a caller.
func (s *Service) Link(ctx context.Context, c auth.Caller) (api.WebUILink, error) {
	if _, ok := s.deps.Caller(ctx, c.Protocol, c.Username); !ok {
		return api.WebUILink{}, errs.Forbidden("Only callers of the local socket and of trusted certificates can log browsers in")
	}
	urls := s.deps.URLs(ctx)
	if len(urls) == 0 {
		u, err := s.serveLoopback()
		if err != nil {
			return api.WebUILink{}, err
		}
		urls = []string{u}
	}
	token, hash := secret()
	now := s.now().UTC()
	l := api.WebUILink{Token: token, URLs: urls, ExpiresAt: now.Add(linkLife)}
	err := s.deps.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := sweep(ctx, tx, now); err != nil {
			return err
		}
		open, err := db.Select[linkRow](ctx, tx, stmtLinks)
		if err != nil {
			return err
		}
		n := 0
		for _, o := range open {
			if o.Protocol == c.Protocol && o.Username == c.Username {
				n++
			}
		}
		if n >= mostLinks {
			return errs.Unavailable("There are %d unused login links already; try again in %s", n, linkLife)
		}
		_, err = db.Insert(ctx, tx, stmtLinkAdd, hash, c.Protocol, c.Username, l.ExpiresAt)
		return err
	})
	return l, err
}

// Login turns a link's token into a session and returns the session and its secret.
func (s *Service) Login(ctx context.Context, token, listener, address, agent string) (Session, string, error) {
	text, hash := secret()
	now := s.now().UTC()
	want := hashOf(token)
	var row sessionRow
	var used bool
	err := s.deps.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		used = false
		if err := sweep(ctx, tx, now); err != nil {
			return err
		}
		l, err := db.One[linkRow](ctx, tx, stmtLink, want)
		if errors.Is(err, db.ErrNotFound) || err == nil && !sameHash(l.Hash, want) {
			used = true // what was swept stays so
			return nil
		}
		if err != nil {
			return err
		}
		if err := db.ExecOne(ctx, tx, stmtLinkDrop, l.ID); err != nil {
			return err
		}
		row = sessionRow{UUID: uuid.NewString(), Hash: hash, Listener: listener, Protocol: l.Protocol, Username: l.Username,
			Address: address, UserAgent: agent, Created: now, Expires: now.Add(sessionLife)}
		var w db.Where
		mine, err := sessions(ctx, tx, w.Eq("protocol", l.Protocol).Eq("username", l.Username))
		if err != nil {
			return err
		}
		for i := 0; i <= len(mine)-mostSessions; i++ { // oldest first
			if _, err := db.Exec(ctx, tx, stmtSessionDrop, mine[i].ID); err != nil {
				return err
			}
		}
		_, err = db.Insert(ctx, tx, stmtSessionAdd, row.UUID, row.Hash, row.Listener, row.Protocol, row.Username, row.Address,
			row.UserAgent, row.Created, row.Expires)
		return err
	})
	if err != nil {
		return Session{}, "", err
	}
	if used {
		return Session{}, "", errs.Forbidden("This login link was used already or is too old; get a new one with: lxc webui")
	}
	if _, ok := s.deps.Caller(ctx, row.Protocol, row.Username); !ok {
		return Session{}, "", errs.Forbidden("Whoever made this login link is not trusted any more")
	}
	return Session(row), text, nil
}

// Session is a browser that is logged in.
type Session sessionRow

// API is the session as clients see it. current is the id of the one that asks.
func (s Session) API(current string) api.WebUISession {
	return api.WebUISession{ID: s.UUID, Protocol: s.Protocol, Username: s.Username, Address: s.Address, UserAgent: s.UserAgent,
		CreatedAt: s.Created, ExpiresAt: s.Expires, Current: s.UUID == current}
}

// Sessions lists the sessions that a caller may know of: all for those who administer
// the server, else the caller's own.
func (s *Service) Sessions(ctx context.Context, c auth.Caller) ([]Session, error) {
	var w db.Where
	rows, err := sessions(ctx, s.deps.DB, &w)
	out := []Session{}
	for _, r := range rows {
		if s.now().Before(r.Expires) && s.listens(r.Listener) && (c.Admin || r.Protocol == c.Protocol && r.Username == c.Username) {
			out = append(out, Session(r))
		}
	}
	return out, err
}

// Revoke ends a session, and what it has open on this member.
func (s *Service) Revoke(ctx context.Context, x Session) error {
	err := s.deps.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtSessionDrop, x.ID)
		return err
	})
	if err == nil {
		s.live.end(x.Hash)
	}
	return err
}

// find loads the session of a secret.
func (s *Service) find(ctx context.Context, text, listener string) (Session, bool, error) {
	want := hashOf(text)
	var w db.Where
	rows, err := sessions(ctx, s.deps.DB, w.Eq("hash", want))
	if err != nil || len(rows) == 0 {
		return Session{}, false, err
	}
	r := rows[0]
	ok := sameHash(r.Hash, want) && s.now().Before(r.Expires) && r.Listener == listener
	return Session(r), ok, nil
}
