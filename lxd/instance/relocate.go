package instance

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"os"
	"strings"

	"github.com/google/uuid"

	"sett/lxd/auth"
	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/db"
	"sett/lxd/host/pack"
	"sett/lxd/op"
	"sett/shared/errs"
	"sett/shared/log"
	"sett/shared/undo"
)

// An instance that moves to another member is sent there by the one that has it:
//
//	its member                              the target
//	checks, locks and marks it
//	says what comes                   -->   checks, locks, records a volume that is passing
//	sends the snapshots and the rest  -->   makes the volume of it
//	                                        one transaction: the instance is here, and the
//	                                        old volume is something that is left
//	removes what is left              <--   answers
//
// The target takes that step, and not the one that asks for it: who has all, and waits for
// a word of the other one before it counts, may wait for ever, and the other one would have
// to come back to it after each kind of accident. So it is the end of one request, and what
// comes before it is taken back when the connection ends. The mark of the instance is a
// ticket without which the step fails: by taking that away its member gives the move up,
// whatever the target is doing by then.

// arrival is what a member is told of an instance that comes to it.
type arrival struct {
	ID        int64    `json:"id"`
	Ticket    string   `json:"ticket"`
	To        NewPlace `json:"to"`
	Streams   bool     `json:"streams"`   // of the pools' driver; else tarballs with the guest's own ids
	Operation string   `json:"operation"` // that does it
}

const arrivalPath = "/internal/instances/arrival"

const stmtRecall db.Stmt = `
UPDATE instances_config SET value = ?1 WHERE instance_id = ?2 AND key = 'volatile.sett_pending' AND value GLOB ?1 || '*'
AND EXISTS (SELECT 1 FROM instances WHERE id = ?2 AND node_id = ?3)`

// relocate is Move to another member, for those who hold the locks.
func (s *Service) relocate(ctx context.Context, as auth.Caller, i *Instance, to NewPlace, count func(int64)) error {
	n, m, err := s.checkRelocate(ctx, as, i, to)
	if err != nil {
		return err
	}
	if err := s.sendAway(ctx, i, n, to, m, count); err != nil {
		return err
	}
	if n.Name != i.Name {
		s.Bus.Lifecycle("instance-renamed", n.Ref(), as.Requestor(), map[string]any{"old_name": i.Name})
	}
	s.Bus.Lifecycle("instance-updated", n.Ref(), as.Requestor(), nil)
	return nil
}

// checkRelocate refuses what cannot be, and changes nothing. n is what the instance will be
// on the other member.
func (s *Service) checkRelocate(ctx context.Context, as auth.Caller, i *Instance, to NewPlace) (n *Instance, m cluster.Member, err error) {
	if !s.Here.Clustered() {
		return nil, m, errs.Invalid("Target only allowed when clustered")
	}
	if group, ok := strings.CutPrefix(to.Member, "@"); ok {
		return nil, m, errs.NotImplemented("Cluster groups are not implemented; name a member instead of the group %q", group)
	}
	m, err = s.Relay.Member(ctx, to.Member)
	switch {
	case err != nil:
		return nil, m, err
	case m.ID == s.Here.ID():
		return nil, m, errs.Invalid("Instance %q is on member %q already", i.Name, m.Name)
	case m.State == cluster.StatePending:
		return nil, m, errs.Invalid("Cluster member %q has not joined yet", m.Name)
	case m.State == cluster.StateEvacuated:
		return nil, m, errs.Invalid("Cluster member %q is evacuated and takes no instances", m.Name)
	case !s.Relay.Online(m):
		return nil, m, errs.Unavailable("Cluster member %q is offline", m.Name)
	}
	if st := s.State(i.ID); st != Stopped && st != Errored {
		return nil, m, errs.Invalid("Instance is running; stop it before it moves to another member")
	}
	if to.Name != "" && to.Name != i.Name {
		if err := CheckName(to.Name); err != nil {
			return nil, m, err
		}
		if err := s.freeName(ctx, i.Project, to.Name); err != nil {
			return nil, m, err
		}
	}
	backups, err := s.Backups(ctx, i)
	if err != nil {
		return nil, m, err
	}
	if len(backups) > 0 {
		return nil, m, errs.Invalid("Instance has backups, which are files on this member; download them with \"lxc export\" and delete them before it moves")
	}
	if n, err = destined(i, to); err != nil {
		return nil, m, err
	}
	return n, m, s.judge(ctx, as, spec(i), n)
}

// destined is an instance as it will be on another member.
func destined(i *Instance, to NewPlace) (*Instance, error) {
	n := i.clone()
	n.Location = to.Member
	if to.Name != "" {
		n.Name = to.Name
	}
	if to.Pool == "" {
		return n, nil
	}
	dev, root, err := rootDevice(i.ExpandedDevices())
	if err != nil {
		return nil, err
	}
	if root["pool"] != to.Pool {
		root = maps.Clone(root)
		root["pool"] = to.Pool
		n.Devices[dev] = root
	}
	return n, nil
}

// sendAway sends an instance to another member, and removes what is left of it here.
func (s *Service) sendAway(ctx context.Context, i, n *Instance, to NewPlace, m cluster.Member, count func(int64)) error {
	if err := s.unread(i); err != nil {
		return err
	}
	l := s.liveOf(i.ID)
	l.keeping.Lock()
	defer l.keeping.Unlock()
	unlock, err := s.lockAllParts(ctx, i, "move")
	if err != nil {
		return err
	}
	defer unlock()
	a := arrival{ID: i.ID, Ticket: uuid.NewString(), To: to, Operation: op.ID(ctx)}
	if err := s.patchConfig(ctx, i, map[string]string{volPending: pendingAway + a.Ticket}); err != nil {
		return err
	}
	defer l.shutFiles(anyFiles)()
	// Networks know devices by member and name.
	if err = s.leaveAll(ctx, i); err == nil {
		op.Step(ctx, "send it to member %s", m.Name)
		err = s.send(ctx, i, n, a, m, count)
	}
	clean, cancel := s.cleanup()
	defer cancel()
	if err != nil {
		switch e := s.unaway(clean, i); {
		case errors.Is(e, errAway): // the answer was lost, but not the instance
		case e != nil:
			log.From(ctx).Warn("Could not take back a move to another member; it is tried again before the next use", "instance", i.Name, "err", e)
			return err
		default:
			return err
		}
	}
	_, end := op.Insist(ctx)
	defer end()
	s.forget(i.ID)
	v, _, err := volume(i)
	if err == nil {
		err = s.clearAway(clean, v)
	}
	if err != nil {
		log.From(ctx).Warn("Could not remove what an instance that has moved has left here; it is tried again when the daemon starts", "instance", i.Name, "err", err)
	}
	return nil
}

// errAway tells of an instance that has arrived on the other member.
var errAway = errs.Unavailable("It is on another member by now")

// unaway gives up the move of an instance to another member, unless it is there by now. It
// may run any number of times.
func (s *Service) unaway(ctx context.Context, i *Instance) error {
	err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.ExecOne(ctx, tx, stmtRecall, pendingAway, i.ID, s.Here.ID())
	})
	if errors.Is(err, db.ErrNotFound) {
		return errAway
	}
	if err != nil {
		return err
	}
	var kept undo.Stack
	if err := s.joinAll(ctx, i, &kept); err != nil {
		return err
	}
	return s.patchConfig(ctx, i, map[string]string{volPending: ""})
}

// clearAway removes what an instance that has moved away has left: its folders, and then its
// volume, by whose record the next life of the daemon would know of it.
func (s *Service) clearAway(ctx context.Context, v Volume) error {
	for _, d := range []string{s.LogDir(v.Project, v.Instance), s.devicesDir(&Instance{Project: v.Project, Name: v.Instance}), s.backupDir(v.Project, v.Instance)} {
		if err := os.RemoveAll(d); err != nil {
			return err
		}
	}
	return s.Storage.Delete(ctx, v)
}

// sweepAway removes, when the daemon starts, what instances have left that moved away, and
// what has come here of those that did not arrive.
func (s *Service) sweepAway(ctx context.Context) error {
	vs, err := s.Storage.Left(ctx)
	if err != nil || len(vs) == 0 {
		return err
	}
	all, err := s.mine(ctx)
	if err != nil {
		return err
	}
	here := map[key]bool{}
	for _, i := range all {
		here[key{i.Project, i.Name}] = true
	}
	for _, v := range vs {
		if here[key{v.Project, v.Instance}] { // another one has the name, and the folders
			err = s.Storage.Delete(ctx, v.Volume)
		} else if err = s.leaveNoted(ctx, v); err == nil {
			err = s.clearAway(ctx, v.Volume)
		}
		if err != nil {
			log.From(ctx).Error("Could not remove what an instance that has moved has left", "instance", v.Instance, "err", err)
			continue
		}
		log.From(ctx).Info("Removed what an instance that has moved has left", "instance", v.Instance)
	}
	return nil
}

// leaveNoted has the devices of an instance that was about to arrive forget what they keep.
func (s *Service) leaveNoted(ctx context.Context, v LeftVolume) error {
	if v.Note == "" {
		return nil
	}
	i := &Instance{Project: v.Project, Name: v.Instance}
	if err := json.Unmarshal([]byte(v.Note), &i.Devices); err != nil {
		return err
	}
	return s.leaveAll(ctx, i)
}

// part is a folder that is sent to another member.
type part struct {
	dir    string
	config map[string]string // says which ids its files have
}

// send tells the other member what comes, sends it, and returns when all has arrived.
func (s *Service) send(ctx context.Context, i, n *Instance, a arrival, m cluster.Member, count func(int64)) error {
	var u undo.Stack
	u.OnError = func(err error) { log.From(ctx).Warn("Could not let go of a volume", "instance", i.Name, "err", err) }
	defer u.Run()
	v, _, err := volume(i)
	if err != nil {
		return err
	}
	parts, err := s.partsOf(ctx, i, v, a.To.Only, &u)
	if err != nil {
		return err
	}
	if a.Streams, err = s.streamable(ctx, v, n, parts); err != nil {
		return err
	}
	r, w := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := s.sendParts(ctx, w, v.Pool, a, parts, count)
		_ = w.CloseWithError(err)
		sent <- err
	}()
	err = s.Relay.To(m).Call(ctx, relay.Request{Method: http.MethodPost, Path: arrivalPath + "?boundary=" + a.Ticket, Body: io.Reader(r)}, nil)
	_ = r.Close()
	// What went wrong here is known better than by what it looks like from there.
	if e := <-sent; err != nil && e != nil && !errors.Is(e, io.ErrClosedPipe) {
		err = e
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// partsOf are the folders of an instance as they are sent: its snapshots, oldest first, and
// then its own.
func (s *Service) partsOf(ctx context.Context, i *Instance, v Volume, only bool, u *undo.Stack) ([]part, error) {
	var parts []part
	if !only {
		snaps, err := s.Snapshots(ctx, i)
		if err != nil {
			return nil, err
		}
		for _, sn := range snaps {
			dir, err := s.Storage.MountSnapshot(ctx, v, sn.Name)
			if err != nil {
				return nil, err
			}
			u.Push(func() error {
				ctx, cancel := s.cleanup()
				defer cancel()
				return s.Storage.UnmountSnapshot(ctx, v, sn.Name)
			})
			parts = append(parts, part{dir, sn.Config})
		}
	}
	dir, drop, err := s.Storage.Hold(ctx, v, nil)
	if err != nil {
		return nil, err
	}
	u.Push(func() error { drop(); return nil })
	return append(parts, part{dir, i.Config}), nil
}

// streamable reports whether what is sent can be in the format of the driver of both pools.
func (s *Service) streamable(ctx context.Context, v Volume, n *Instance, parts []part) (bool, error) {
	into, _, err := volume(n)
	if err != nil {
		return false, err
	}
	from, err := s.Storage.Describe(ctx, v.Pool)
	if err != nil {
		return false, err
	}
	to, err := s.Storage.Describe(ctx, into.Pool)
	if err != nil || to.Driver != from.Driver || s.Storage.CanSend(ctx, v) != nil {
		return false, err
	}
	dirs := make([]string, len(parts))
	for n, p := range parts {
		dirs[n] = p.dir
	}
	err = s.Storage.Sendable(ctx, v.Pool, dirs...)
	if errs.Is(err, errs.KindInvalid) {
		return false, nil
	}
	return err == nil, err
}

// sendParts writes all that goes to the other member.
func (s *Service) sendParts(ctx context.Context, to io.Writer, pool string, a arrival, parts []part, count func(int64)) error {
	buf := bufio.NewWriterSize(to, 256<<10)
	mp := multipart.NewWriter(buf)
	if err := mp.SetBoundary(a.Ticket); err != nil {
		return err
	}
	w, err := mp.CreatePart(nil)
	if err == nil {
		err = json.NewEncoder(w).Encode(a)
	}
	parent := ""
	for _, p := range parts {
		if err == nil {
			w, err = mp.CreatePart(nil)
		}
		if err != nil {
			return err
		}
		w = tallied{w, count}
		if a.Streams {
			_, err = s.Storage.Send(ctx, pool, p.dir, parent, w)
			parent = p.dir
			continue
		}
		z := pack.NewWriter(w)
		if err = s.packTree(ctx, z, p.dir, ".", p.config, pack.Options{Whole: true}); err == nil {
			err = z.Close()
		}
	}
	if err != nil {
		return err
	}
	return errors.Join(mp.Close(), buf.Flush())
}

// tallied tells of what is written.
type tallied struct {
	io.Writer
	tell func(int64)
}

func (c tallied) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	if c.tell != nil {
		c.tell(int64(n))
	}
	return n, err
}
