package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"sync"
	"time"

	"github.com/google/uuid"

	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/instance/template"
	"sett/lxd/rest"
	"sett/shared/errs"
	"sett/shared/log"
	"sett/shared/undo"
)

const (
	stmtArrive db.Stmt = `
UPDATE instances SET node_id = ?1, name = ?2 WHERE id = ?3 AND node_id = ?4
AND EXISTS (SELECT 1 FROM instances_config WHERE instance_id = ?3 AND key = 'volatile.sett_pending' AND value = ?5)`
	stmtSnapshotsPlain db.Stmt = `
UPDATE instances_snapshots_config SET value = '[]' WHERE key = 'volatile.last_state.idmap'
AND instance_snapshot_id IN (SELECT id FROM instances_snapshots WHERE instance_id = ?)`
)

// arriveTime is how long an instance that comes waits for whoever is at work on its name:
// an earlier attempt may be being taken back.
const arriveTime = 30 * time.Second

// handleArrival takes an instance that another member sends; see relocate.go.
func (s *Service) handleArrival(ctx context.Context, r *rest.Request) (rest.Response, error) {
	parts := multipart.NewReader(r.Body(), r.Query("boundary"))
	p, err := parts.NextRawPart()
	if err != nil {
		return nil, errs.Invalid("The instance does not arrive whole: %v", err)
	}
	var a arrival
	if err := json.NewDecoder(io.LimitReader(p, rest.DefaultBodyLimit)).Decode(&a); err != nil {
		return nil, errs.Invalid("Invalid JSON: %v", err)
	}
	return rest.Empty(), s.arrive(ctx, a, parts)
}

// arrive makes an instance of another member one of this one, when all of it has come.
func (s *Service) arrive(ctx context.Context, a arrival, parts *multipart.Reader) error {
	i, err := s.loadID(ctx, a.ID)
	if err != nil {
		return err
	}
	if i == nil || i.Config[volPending] != pendingAway+a.Ticket {
		return errGivenUp
	}
	n, err := destined(i, a.To)
	if err != nil {
		return err
	}
	unlock, err := s.awaitName(ctx, n)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.checkArchitecture(n.Architecture); err != nil {
		return err
	}
	// Devices may want something that this member lacks.
	if err := s.checkEffective(ctx, n); err != nil {
		return fmt.Errorf("Instance %q cannot be on member %q: %w", n.Name, s.Here.Name(), err)
	}
	v, b, err := s.awaited(ctx, n, a)
	if err != nil {
		return err
	}
	var u undo.Stack
	u.OnError = func(err error) {
		log.From(ctx).Warn("Could not take back the arrival of an instance", "instance", n.Name, "err", err)
	}
	// Networks hear of it when the volume has its record, which tells of it after a crash, and
	// before it has its content, which takes longest: a taken address is found out at once.
	join := func() error { return s.joinAll(ctx, n, &u) }
	if err := s.unpackArrival(ctx, v, b, a, parts, join); err != nil {
		u.Run()
		return err
	}
	arrived := false
	defer func() {
		if arrived {
			return
		}
		ctx, cancel := s.cleanup()
		defer cancel()
		given, err := s.Storage.GiveUp(ctx, v)
		if err != nil {
			u.OnError(err)
		}
		if given {
			u.Run()
		} else { // it was taken over, perhaps, and only the answer was lost
			s.stale(n.ID)
		}
	}()
	if err := s.newFolders(n, &u); err != nil {
		return err
	}
	if err := s.takeOver(ctx, i, n, v, a); err != nil {
		return err
	}
	arrived = true
	s.stale(n.ID)
	return nil
}

var errGivenUp = errs.Conflict("The move of the instance was given up")

// awaitName locks the name that an instance is to have here.
func (s *Service) awaitName(ctx context.Context, n *Instance) (func(), error) {
	wait, cancel := context.WithTimeout(ctx, arriveTime)
	defer cancel()
	unlock, err := s.Locks.Lock(wait, "arrival from another member", entity.New(entity.Instance, n.Project, n.Name))
	if err != nil {
		return nil, busy(n.Name, err)
	}
	return unlock, nil
}

// awaited is the volume of an instance that comes, and what comes with it. What it has left
// when it was here before goes first.
func (s *Service) awaited(ctx context.Context, n *Instance, a arrival) (v Volume, b Bringing, err error) {
	v, root, err := volume(n)
	if err != nil {
		return v, b, err
	}
	if b.Size, err = rootSize(root); err != nil {
		return v, b, err
	}
	note, err := json.Marshal(n.ExpandedDevices()) // see leaveNoted
	if err != nil {
		return v, b, err
	}
	b.Passing, b.Note = true, string(note)
	if !a.To.Only {
		snaps, err := s.Snapshots(ctx, n)
		if err != nil {
			return v, b, err
		}
		for _, sn := range snaps {
			size, err := sn.room(n, b.Size)
			if err != nil {
				return v, b, err
			}
			b.Snapshots = append(b.Snapshots, Brought{Name: sn.Name, Taken: sn.Created, Size: size})
		}
	}
	return v, b, s.Storage.DropLeft(ctx, v)
}

// unpackArrival makes the volume and its snapshots of what comes. begun is called when the
// volume has its record.
func (s *Service) unpackArrival(ctx context.Context, v Volume, b Bringing, a arrival, parts *multipart.Reader, begun func() error) error {
	first := sync.OnceValue(begun)
	next := func() (*multipart.Part, error) {
		if err := first(); err != nil {
			return nil, err
		}
		p, err := parts.NextRawPart()
		if err != nil {
			return nil, errs.Invalid("The instance does not arrive whole: %v", err)
		}
		return p, nil
	}
	var err error
	if a.Streams {
		open := func(context.Context, string) (io.ReadCloser, error) { return next() }
		err = s.Storage.Receive(ctx, v, b, open, nil)
	} else {
		err = s.Storage.CreateFilled(ctx, v, b, func(ctx context.Context, dirs []string) error {
			for _, dir := range append(dirs[1:len(dirs):len(dirs)], dirs[0]) { // its own comes last
				p, err := next()
				if err != nil {
					return err
				}
				if err := s.Unpacker.Stream(ctx, p, dir); err != nil {
					return err
				}
			}
			return s.arrivedWhole(parts)
		})
	}
	if err != nil {
		return err
	}
	if !a.Streams {
		return nil
	}
	if err = s.arrivedWhole(parts); err != nil {
		ctx, cancel := s.cleanup()
		defer cancel()
		_, e := s.Storage.GiveUp(ctx, v)
		err = errors.Join(err, e)
	}
	return err
}

// arrivedWhole refuses what breaks off, or goes on.
func (s *Service) arrivedWhole(parts *multipart.Reader) error {
	if _, err := parts.NextRawPart(); err != io.EOF {
		return errs.Invalid("The instance does not arrive whole: %v", err)
	}
	return nil
}

// takeOver is the step by which an instance comes to be here.
func (s *Service) takeOver(ctx context.Context, i, n *Instance, v Volume, a arrival) error {
	from, _, err := volume(i)
	if err != nil {
		return err
	}
	source, err := s.Relay.Member(ctx, i.Location)
	if err != nil {
		return err
	}
	changes := map[string]string{volPending: ""}
	if a.Operation != "" {
		changes[volDone] = a.Operation
	}
	if !a.Streams {
		changes[volDiskMap] = "[]"
	}
	if n.Name != i.Name {
		changes[volInstanceID] = uuid.NewString()
		if n.Config[volApply] == "" { // an instance that never started is new above all
			changes[volApply] = template.Rename
		}
	}
	merge(n, changes)
	if err := ctx.Err(); err != nil {
		return err
	}
	err = s.Storage.TakeOver(ctx, v, from, source.ID, func(ctx context.Context, tx *db.Tx) error {
		err := db.ExecOne(ctx, tx, stmtArrive, s.Here.ID(), n.Name, n.ID, source.ID, pendingAway+a.Ticket)
		switch {
		case errors.Is(err, db.ErrNotFound):
			return errGivenUp
		case errors.Is(err, db.ErrDuplicate):
			return errs.Conflict("Name %q already in use", n.Name)
		case err != nil:
			return err
		}
		if err := store(ctx, tx, n); err != nil {
			return err
		}
		if a.To.Only {
			_, err = db.Exec(ctx, tx, stmtSnapshotsClear, n.ID)
		} else if !a.Streams {
			_, err = db.Exec(ctx, tx, stmtSnapshotsPlain, n.ID)
		}
		if err != nil {
			return err
		}
		return placeSnapshots(ctx, tx, n)
	})
	if err == nil {
		return nil
	}
	// A commit that has failed may have been one.
	clean, cancel := s.cleanup()
	defer cancel()
	if now, e := s.loadID(clean, n.ID); e == nil && now != nil && s.local(now) {
		return nil
	}
	return err
}
