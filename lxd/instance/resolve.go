package instance

import (
	"context"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"

	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/op"
)

// What operations on instances are called. After a crash it tells what one was to do.
const (
	doCreate         = "Creating instance"
	doRefresh        = "Refreshing instance"
	doUpdate         = "Updating instance"
	doRestore        = "Restoring snapshot"
	doRename         = "Renaming instance"
	doMove           = "Migrating instance"
	doRebuild        = "Rebuilding instance"
	doDelete         = "Deleting instance"
	doStart          = "Starting instance"
	doStop           = "Stopping instance"
	doRestart        = "Restarting instance"
	doFreeze         = "Freezing instance"
	doUnfreeze       = "Unfreezing instance"
	doSnapshot       = "Snapshotting instance"
	doSnapshotUpdate = "Updating snapshot"
	doSnapshotRename = "Renaming snapshot"
	doSnapshotDelete = "Deleting snapshot"
	doSchedule       = "Creating scheduled instance snapshots"
	doExpire         = "Cleaning up expired instance snapshots"
	doPrune          = "Pruning instance snapshots"
	doImport         = "Restoring backup"
	doBackup         = "Backing up instance"
	doBackupRename   = "Renaming instance backup"
	doBackupDelete   = "Removing instance backup"
	doBackupExpire   = "Cleaning up expired instance backups"
)

// done adds to changes that go with the last step of an operation that the step was taken.
// Whoever finds the operation interrupted knows by that whether it was the only thing that
// it had left to do. Without an operation nothing is added.
func done(ctx context.Context, changes map[string]string) map[string]string {
	return doneSoFar(ctx, changes, "")
}

// doneSoFar is done for a step that is not the last one but cannot be taken back; sofar says
// what is so when the operation ends here.
func doneSoFar(ctx context.Context, changes map[string]string, sofar string) map[string]string {
	id := op.ID(ctx)
	if id == "" {
		return changes
	}
	if changes == nil {
		changes = map[string]string{}
	}
	changes[volDone] = strings.TrimSpace(id + " " + sofar)
	return changes
}

const stmtDoneElsewhere db.Stmt = `
SELECT c.value AS operation, n.name AS node FROM instances_config AS c
JOIN instances AS i ON i.id = c.instance_id JOIN nodes AS n ON n.id = i.node_id
WHERE c.key = 'volatile.sett_done' AND i.node_id <> ?`

type doneRow struct {
	Operation string `db:"operation"`
	Node      string `db:"node"`
}

// fates are what Recover did to instances, by their name.
type fates struct {
	mu      sync.Mutex
	failed  map[key]error  // what could not be cleaned up
	carried map[key]bool   // restores and rebuilds that were carried through
	swept   map[key]bool   // deletes of snapshots that were
	cleaned map[key]string // after what was pending
}

type key struct{ project, name string }

func newFates() *fates {
	return &fates{failed: map[key]error{}, carried: map[key]bool{}, swept: map[key]bool{}, cleaned: map[key]string{}}
}

// settled notes how it went to clean up after what was pending.
func (f *fates) settled(i *Instance, pending string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := key{i.Project, i.Name}
	if err != nil {
		f.failed[k] = err
		return
	}
	f.carried[k] = strings.HasPrefix(pending, pendingRestore) || strings.HasPrefix(pending, pendingRebuild)
	for _, p := range []string{pendingShift, pendingAway} { // the rest is not for readers
		if strings.HasPrefix(pending, p) {
			pending = strings.TrimSpace(p)
		}
	}
	f.cleaned[k] = pending
}

// resolve tells of each operation on instances that was interrupted what became of it, once
// Recover has cleaned up.
func (s *Service) resolve(ctx context.Context, f *fates) error {
	cut := s.Ops.Interrupted()
	if len(cut)+len(f.cleaned) == 0 {
		return nil
	}
	all, err := s.mine(ctx)
	if err != nil {
		return err
	}
	byName, byDone := map[key]*Instance{}, map[string]op.Outcome{}
	for _, i := range all {
		byName[key{i.Project, i.Name}] = i
		switch id, sofar, half := strings.Cut(i.Config[volDone], " "); {
		case half:
			byDone[id] = op.Unknown(sofar)
		case id != "":
			byDone[id] = op.Finished("its last step had been taken")
		}
	}
	// The last step of a move to another member is taken there.
	away, err := db.Select[doneRow](ctx, s.DB, stmtDoneElsewhere, s.Here.ID())
	if err != nil {
		return err
	}
	for _, r := range away {
		byDone[r.Operation] = op.Finished("the instance is on member " + r.Node)
	}
	told := map[key]bool{}
	var owners []*Instance
	var backups map[int64][]*Backup
	for _, e := range cut {
		switch e.Description {
		case doSchedule, doExpire, doPrune, doBackupExpire:
			s.Ops.Resolve(e.ID, op.Unknown("what it had left to do is done when it is due again"))
			continue
		case doBackup, doBackupRename, doBackupDelete:
			if owners == nil {
				if owners, backups, err = s.withBackups(ctx); err != nil {
					return err
				}
			}
			s.Ops.Resolve(e.ID, backupOutcome(e, owners, backups))
			continue
		}
		if o, ok := byDone[e.ID]; ok {
			s.Ops.Resolve(e.ID, o)
			continue
		}
		var outs []op.Outcome
		var names []string
		about := e.Resources["instances"]
		if (e.Description == doCreate || e.Description == doRefresh) && len(about) > 1 { // the others are what it is made of
			about = about[:1]
		}
		for _, u := range about {
			if n := nameOf(u); n != "" {
				k := key{e.Project, n}
				told[k] = true
				names, outs = append(names, n), append(outs, s.outcome(e, byName[k], k, f))
			}
		}
		if len(outs) > 0 {
			s.Ops.Resolve(e.ID, inAll(names, outs))
		}
	}
	// A beginning may not have been written before the kill.
	for k, pending := range f.cleaned {
		text := "An interrupted " + pending + " of instance " + k.name + " was rolled back"
		switch {
		case told[k], pending == pendingCreate && byName[k] != nil: // that one had ended
			continue
		case pending == pendingDelete, f.carried[k]:
			text = "An interrupted " + pending + " of instance " + k.name + " was finished"
		}
		s.Ops.Note(ctx, text, entity.New(entity.Instance, k.project, k.name))
	}
	return nil
}

// nameOf is the name of the instance that a resource of an operation stands for.
func nameOf(u string) string {
	u, _, _ = strings.Cut(u, "?")
	n, err := url.PathUnescape(path.Base(u))
	if err != nil {
		return ""
	}
	return n
}

// outcome is what an operation did to one instance; i is nil when there is none.
func (s *Service) outcome(e op.Entry, i *Instance, k key, f *fates) op.Outcome {
	if err := f.failed[k]; err != nil {
		return op.Unknown("the instance is not whole; that is mended before its next use: " + err.Error())
	}
	switch {
	case (e.Description == doDelete || e.Description == doStop) && i == nil: // an ephemeral one goes when it stops
		return op.Finished("the instance is gone")
	case (e.Description == doCreate || e.Description == doImport) && i == nil:
		return op.RolledBack("nothing of the instance is left")
	case e.Description == doRefresh && i != nil:
		return op.Unknown("the instance may lack what it was to get; refresh it again")
	case e.Description == doCreate, e.Description == doImport:
		return op.Finished("the instance is whole")
	case i == nil:
		return op.Unknown("the instance is not here any more")
	case (e.Description == doRestore || e.Description == doRebuild) && f.carried[k]:
		return op.Finished("it was carried through")
	case e.Description == doSnapshotDelete && f.swept[k]:
		return op.Finished("the rest of the snapshot was removed")
	}
	st := s.State(i.ID)
	verdict := func(done bool) op.Outcome {
		if done {
			return op.Finished("the instance is " + st.String())
		}
		return op.RolledBack("the instance is " + st.String())
	}
	if st == Errored {
		return op.Unknown("it is not known whether the instance runs")
	}
	switch e.Description {
	case doStart:
		return verdict(st.alive())
	case doStop:
		return verdict(!st.alive())
	case doRestart:
		switch {
		case !st.alive():
			return op.Unknown("the instance is stopped")
		case i.LastUsed.After(e.CreatedAt):
			return op.Finished("the instance was started again")
		}
		return op.RolledBack("the instance had not been stopped")
	case doFreeze:
		return verdict(st == Frozen)
	case doUnfreeze:
		return verdict(st != Frozen)
	case doUpdate:
		return op.RolledBack("the configuration is what it was before")
	case doRename, doMove, doRestore, doRebuild, doDelete, doSnapshot, doSnapshotUpdate, doSnapshotRename, doSnapshotDelete:
		return op.RolledBack("the instance is as it was before")
	}
	return op.Unknown("the instance is " + st.String())
}

// backupOutcome is what an operation did to the backup that it names: the one that was to
// be, or to go. Records and files of backups agree by now.
func backupOutcome(e op.Entry, owners []*Instance, backups map[int64][]*Backup) op.Outcome {
	there := false
	for _, i := range owners {
		for _, b := range backups[i.ID] {
			there = there || i.Project == e.Project && names(e, "instances", i.Name) && names(e, "backups", b.Name)
		}
	}
	verdict := op.RolledBack
	if there != (e.Description == doBackupDelete) {
		verdict = op.Finished
	}
	switch {
	case there:
		return verdict("the backup is there")
	case e.Description == doBackupRename:
		return verdict("the backup has the name that it had")
	}
	return verdict("nothing of the backup is left")
}

// names reports whether an operation is about something of this kind and name.
func names(e op.Entry, kind, name string) bool {
	return slices.ContainsFunc(e.Resources[kind], func(u string) bool { return nameOf(u) == name })
}

// inAll is the outcome of an operation on several instances.
func inAll(names []string, outs []op.Outcome) op.Outcome {
	isDone := func(o op.Outcome) bool { return o.Done }
	switch {
	case len(outs) == 1, !slices.ContainsFunc(outs, isDone):
		return outs[0]
	case !slices.ContainsFunc(outs, func(o op.Outcome) bool { return !o.Done }):
		return op.Finished("")
	}
	var is, not []string
	for n, o := range outs {
		if o.Done {
			is = append(is, names[n])
		} else {
			not = append(not, names[n])
		}
	}
	return op.Unknown("it was done for " + strings.Join(is, ", ") + ", and not for " + strings.Join(not, ", "))
}
