package history

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"sett/lxd/db"
	"sett/lxd/op"
	"sett/shared/api"
	"sett/shared/errs"
)

const (
	// Longest is how long an operation is remembered.
	Longest = 30 * 24 * time.Hour
	// Most is how many are remembered, beside the sessions.
	Most = 2000
	// Sessions is how many sessions are remembered, for as long as the daemon runs.
	Sessions = 500

	// linger is how long the end of an operation waits for others to be written with.
	linger = 100 * time.Millisecond
	// tidyAfter is how many operations come between two looks at what is too old.
	tidyAfter = 200
	// unwritten bounds what waits for a database that cannot be written.
	unwritten = 2 * Most
)

// Store is the history. It implements op.Journal.
type Store struct {
	db  *db.DB
	log *slog.Logger

	begun, ended chan struct{} // something of that sort waits to be written
	quit         chan struct{}
	over         chan struct{}
	stop         sync.Once

	mu       sync.Mutex
	waiting  map[string]op.Entry // to be written
	cut      map[string]op.Entry // begun by an earlier life of the daemon
	sessions []op.Entry          // that have ended, oldest first
	failed   bool                // the last attempt to write did

	writing sync.Mutex // held while something is written
	fresh   int        // written since it was tidied
}

// Open reads what an earlier life of the daemon has left, and begins to write. A history
// that cannot be read is no reason not to start.
func Open(ctx context.Context, d *db.DB, log *slog.Logger) *Store {
	s := &Store{db: d, log: log, begun: make(chan struct{}, 1), ended: make(chan struct{}, 1), quit: make(chan struct{}), over: make(chan struct{}),
		waiting: map[string]op.Entry{}, cut: map[string]op.Entry{}}
	for _, e := range s.left(ctx) {
		s.cut[e.ID] = e
	}
	if err := s.tidy(ctx); err != nil {
		log.Warn("Could not tidy the history of operations", "err", err)
	}
	go s.write(context.WithoutCancel(ctx))
	return s
}

// left is what was cut off. One damaged row hides all others, so they are dropped then.
func (s *Store) left(ctx context.Context) []op.Entry {
	var w db.Where
	all, err := s.read(ctx, w.Null("ended_at"))
	if err == nil {
		return all
	}
	dropped := s.db.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtDrop)
		return err
	})
	s.log.Error("Could not read the history of operations, and began a new one", "err", errors.Join(err, dropped))
	return nil
}

// Close writes what waits and ends. ctx bounds it.
func (s *Store) Close(ctx context.Context) error {
	s.stop.Do(func() { close(s.quit) })
	select {
	case <-s.over:
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.flush(ctx)
}

// Began implements op.Journal.
func (s *Store) Began(e op.Entry) {
	if !e.Session {
		s.put(e, s.begun)
	}
}

// Ended implements op.Journal.
func (s *Store) Ended(e op.Entry) {
	if !e.Session {
		s.put(e, s.ended)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sessions) == Sessions {
		s.sessions = slices.Delete(s.sessions, 0, 1)
	}
	s.sessions = append(s.sessions, e)
}

func (s *Store) put(e op.Entry, wake chan struct{}) {
	s.mu.Lock()
	if _, known := s.waiting[e.ID]; known || len(s.waiting) < unwritten {
		s.waiting[e.ID] = e
	}
	s.mu.Unlock()
	select {
	case wake <- struct{}{}:
	default: // it is awake
	}
}

// Interrupted implements op.Journal.
func (s *Store) Interrupted() []op.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]op.Entry, 0, len(s.cut))
	for _, e := range s.cut {
		out = append(out, e)
	}
	slices.SortFunc(out, byAge)
	return out
}

// Resolve implements op.Journal.
func (s *Store) Resolve(id string, o op.Outcome) (op.Entry, bool) {
	s.mu.Lock()
	e, ok := s.cut[id]
	delete(s.cut, id)
	s.mu.Unlock()
	if !ok {
		return e, false
	}
	now := time.Now()
	e.UpdatedAt, e.EndedAt = now, &now
	if o.Done {
		e.StatusCode = api.Success
	} else {
		e.StatusCode, e.Err = api.Failure, o.Text
	}
	e.Status = e.StatusCode.String()
	text := o.Text
	if o.Done {
		text = "Finished, though the daemon ended while the operation ran"
		if o.Text != "" {
			text += ": " + o.Text
		}
	}
	e.Log = append(slices.Clone(e.Log), api.OperationStep{At: now.UTC(), Text: text})
	s.put(e, s.ended)
	return e, true
}

// Find returns an operation that has ended, or that was cut off.
func (s *Store) Find(ctx context.Context, id string) (op.Entry, error) {
	s.mu.Lock()
	e, ok := s.waiting[id]
	if i := slices.IndexFunc(s.sessions, func(e op.Entry) bool { return e.ID == id }); i >= 0 {
		e, ok = s.sessions[i], true
	}
	s.mu.Unlock()
	if ok {
		return e, nil
	}
	var w db.Where
	es, err := s.read(ctx, w.Eq("id", id))
	if err != nil {
		return op.Entry{}, err
	}
	if len(es) == 0 {
		return op.Entry{}, errs.NotFound("Operation %q not found", id)
	}
	return es[0], nil
}

// List returns all that is remembered, oldest first. What runs is among it.
func (s *Store) List(ctx context.Context) ([]op.Entry, error) {
	// In this order: what is written meanwhile is seen twice, and not missed.
	s.mu.Lock()
	waiting, sessions := maps.Clone(s.waiting), slices.Clone(s.sessions)
	s.mu.Unlock()
	all, err := s.read(ctx, &db.Where{})
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	if err != nil {
		// What runs and what ended just now is there all the same.
		s.log.Warn("Could not read the history of operations", "err", err)
	}
	for i, e := range all {
		if w, ok := waiting[e.ID]; ok && !w.UpdatedAt.Before(e.UpdatedAt) {
			all[i] = w
		}
		delete(waiting, e.ID)
	}
	all = slices.AppendSeq(all, maps.Values(waiting))
	all = append(all, sessions...)
	slices.SortFunc(all, byAge)
	return all, nil
}

func byAge(a, b op.Entry) int {
	if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
		return c
	}
	if a.ID < b.ID {
		return -1
	}
	return 1
}

// write writes what waits until the store is closed.
func (s *Store) write(ctx context.Context) {
	defer close(s.over)
	for {
		select {
		case <-s.begun:
		case <-s.ended:
			t := time.NewTimer(linger)
			select {
			case <-s.begun:
			case <-t.C:
			case <-s.quit:
			}
			t.Stop()
		case <-s.quit:
			return
		}
		err := s.flush(ctx)
		s.mu.Lock()
		told := s.failed
		s.failed = err != nil
		s.mu.Unlock()
		if err != nil && !told {
			s.log.Warn("Could not write the history of operations; it is tried again with the next one", "err", err)
		}
	}
}

// flush writes what waits, in one transaction.
func (s *Store) flush(ctx context.Context) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	batch := make([]op.Entry, 0, len(s.waiting))
	for _, e := range s.waiting {
		batch = append(batch, e)
	}
	s.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	if err := s.save(ctx, batch); err != nil {
		return err
	}
	s.mu.Lock()
	for _, e := range batch {
		// It may have gone on meanwhile.
		if w := s.waiting[e.ID]; w.UpdatedAt.Equal(e.UpdatedAt) && w.StatusCode == e.StatusCode {
			delete(s.waiting, e.ID)
		}
	}
	s.mu.Unlock()
	if s.fresh += len(batch); s.fresh < tidyAfter {
		return nil
	}
	return s.tidy(ctx)
}
