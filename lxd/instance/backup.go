package instance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sett/lxd/db"
	"sett/lxd/event"
	"sett/lxd/host/pack"
	"sett/lxd/instance/backup"
	"sett/lxd/lock"
	"sett/shared/errs"
	"sett/shared/log"
	"sett/shared/undo"
)

// NewBackup says what kind of a backup to make.
type NewBackup struct {
	Name         string // empty: backup0, backup1 and so on
	Expires      time.Time
	InstanceOnly bool
	Optimized    bool   // as streams of the pool's driver
	Compression  string // empty: as backups.compression_algorithm says
	// Progress is told now and then how much has been packed.
	Progress func(bytes int64)

	algorithm pack.Algorithm
	unlock    func() // of the name
}

// Drop gives up a plan.
func (o *NewBackup) Drop() { o.unlock() }

// defaultCompression is what backups.compression_algorithm says where it says nothing.
const defaultCompression = "gzip"

// PlanBackup checks a request for a backup, fills in what it leaves open, and reserves the
// name until CreateBackup or Drop.
func (s *Service) PlanBackup(ctx context.Context, i *Instance, o NewBackup) (NewBackup, error) {
	if strings.Contains(o.Name, "/") {
		return o, errs.Invalid("Backup names may not contain slashes")
	}
	if err := s.mustBeHere(i); err != nil {
		return o, err
	}
	if o.Compression == "" {
		set, err := db.Select[string](ctx, s.DB, stmtCompression)
		if err != nil {
			return o, err
		}
		o.Compression = defaultCompression
		if len(set) > 0 && set[0] != "" {
			o.Compression = set[0]
		}
	}
	var err error
	if o.algorithm, err = pack.ParseAlgorithm(o.Compression); err != nil {
		return o, err
	}
	if o.Optimized {
		v, _, err := volume(i)
		if err != nil {
			return o, err
		}
		if err := s.Storage.CanSend(ctx, v); err != nil {
			return o, err
		}
	}
	if o.Expires.Unix() <= 0 { // clients write "never" as the epoch, too
		o.Expires = time.Time{}
	}
	return o, s.reserveBackup(ctx, i, &o)
}

// reserveBackup takes the name of a backup, or one that is free.
func (s *Service) reserveBackup(ctx context.Context, i *Instance, o *NewBackup) error {
	named := o.Name != ""
	if named {
		if err := checkBackupName(o.Name); err != nil {
			return err
		}
	}
	all, err := s.Backups(ctx, i)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		if !named {
			o.Name = fmt.Sprintf("backup%d", n)
		}
		ref := (&Backup{Name: o.Name}).Ref(i)
		_, busy := s.Locks.Holder(ref)
		if !busy && !slices.ContainsFunc(all, func(b *Backup) bool { return b.Name == o.Name }) {
			if o.unlock, err = s.Locks.TryLock("backup", ref); err == nil {
				// One may have come to be since all were read.
				if _, err = s.Backup(ctx, i, o.Name); errs.Is(err, errs.KindNotFound) {
					return nil
				}
				o.unlock()
				if err != nil {
					return err
				}
			}
		}
		if named {
			return backupTaken(i, o.Name)
		}
	}
}

// checkBackupName refuses names that cannot be a file and part of a URL.
func checkBackupName(name string) error {
	if name == "" || name[0] == '.' || len(name) > 128 || strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r == 0x7f || r == '/' || r == '\\'
	}) {
		return errs.Invalid("Invalid backup name %q", name)
	}
	return nil
}

// CreateBackup makes a backup of an instance, which may run. It is packed under another
// name and gets its own at the end; the record is written last. What a daemon that died
// has left is swept away when it starts again.
func (s *Service) CreateBackup(ctx context.Context, project, name string, o NewBackup, by *event.Requestor) (*Backup, error) {
	defer o.unlock()
	src, err := s.forBackup(ctx, project, name, o)
	if err != nil {
		return nil, err
	}
	defer src.release()
	i := src.Instance
	var u undo.Stack
	u.OnError = func(err error) { log.From(ctx).Warn("Could not take back a backup", "instance", i.Name, "err", err) }
	defer u.Run()
	b := &Backup{Name: o.Name, Created: time.Now().UTC(), Expires: o.Expires, InstanceOnly: o.InstanceOnly, Optimized: o.Optimized}
	tmp, err := s.spool("export", &u)
	if err != nil {
		return nil, err
	}
	defer tmp.Close()
	if err := s.packBackup(ctx, src, o, tmp); err != nil {
		return nil, err
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return nil, noRoom(err)
	}
	dir := s.backupDir(project, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, noRoom(err)
	}
	u.Push(func() error { _ = os.Remove(dir); return nil }) // stays if it holds others
	to := filepath.Join(dir, b.Name)
	if err := os.Rename(tmp.Name(), to); err != nil {
		return nil, err
	}
	u.Push(func() error { return os.Remove(to) })
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return insertBackup(ctx, tx, i, b) })
	if err != nil {
		return nil, err
	}
	u.Commit()
	s.Bus.Lifecycle("instance-backup-created", b.Ref(i), by, nil)
	return b, nil
}

// source is what a backup is made of.
type source struct {
	*Instance
	volume    Volume
	snapshots []*Snapshot
	dir       string // the content of the instance
	release   func()
}

// forBackup shows an instance as it is now. Until release is called it keeps its volumes
// and its name; everything else may happen to it: it can be started and stopped.
func (s *Service) forBackup(ctx context.Context, project, name string, o NewBackup) (*source, error) {
	i, unlock, err := s.claimWhole(ctx, project, name, "backup")
	if err != nil {
		return nil, err
	}
	defer unlock()
	src := &source{Instance: i}
	if src.volume, _, err = volume(i); err != nil {
		return nil, err
	}
	if !o.InstanceOnly {
		if src.snapshots, err = s.Snapshots(ctx, i); err != nil {
			return nil, err
		}
		if n := len(src.snapshots); n > backup.MaxSnapshots {
			return nil, errs.Invalid("Instance %q has %d snapshots, and a backup holds no more than %d; delete some, or leave them out with --instance-only", name, n, backup.MaxSnapshots)
		}
	}
	if err := s.keepFile(ctx, i); err != nil {
		return nil, err
	}
	var drop func()
	if src.dir, drop, err = s.Storage.Hold(ctx, src.volume, s.quiet(i)); err != nil {
		return nil, noRoom(err)
	}
	read := s.liveOf(i.ID).read("backup", append(namesOf(src.snapshots), itself)...)
	src.release = func() {
		drop()
		read()
	}
	return src, nil
}

// lockBackups keeps backups of an instance as they are. Who gives it another name or takes
// it away locks all of its.
func (s *Service) lockBackups(ctx context.Context, i *Instance, doing string, names ...string) (func(), error) {
	keys := make([]lock.Key, len(names))
	for n, name := range names {
		keys[n] = (&Backup{Name: name}).Ref(i)
	}
	unlock, err := s.Locks.Lock(ctx, doing, keys...)
	if err != nil {
		return nil, err
	}
	now, err := s.loadID(ctx, i.ID)
	if err == nil && (now == nil || now.Name != i.Name) {
		err = errs.NotFound("Instance %q is gone", i.Name)
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// DeleteBackup removes a backup.
func (s *Service) DeleteBackup(ctx context.Context, i *Instance, name string, by *event.Requestor) error {
	unlock, err := s.lockBackups(ctx, i, "delete of a backup", name)
	if err != nil {
		return err
	}
	defer unlock()
	b, err := s.Backup(ctx, i, name)
	if err != nil {
		return err
	}
	dir := s.backupDir(i.Project, i.Name)
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_ = os.Remove(dir) // stays if it holds others
	err = s.DB.Update(context.WithoutCancel(ctx), func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtBackupDelete, b.ID)
		return err
	})
	if err == nil {
		s.Bus.Lifecycle("instance-backup-deleted", b.Ref(i), by, nil)
	}
	return err
}

// RenameBackup gives a backup another name.
func (s *Service) RenameBackup(ctx context.Context, i *Instance, name, to string, by *event.Requestor) error {
	if err := checkBackupName(to); err != nil {
		return err
	}
	unlock, err := s.lockBackups(ctx, i, "rename of a backup", name, to)
	if err != nil {
		return err
	}
	defer unlock()
	b, err := s.Backup(ctx, i, name)
	if err != nil {
		return err
	}
	switch _, err := s.Backup(ctx, i, to); {
	case err == nil:
		return backupTaken(i, to)
	case !errs.Is(err, errs.KindNotFound):
		return err
	}
	// Both names stand for the file until the record says which it is; a daemon that dies
	// meanwhile removes the other one when it starts again.
	dir := s.backupDir(i.Project, i.Name)
	var u undo.Stack
	u.OnError = func(err error) {
		log.From(ctx).Warn("Could not take back the rename of a backup", "instance", i.Name, "err", err)
	}
	defer u.Run()
	if err := os.Link(filepath.Join(dir, name), filepath.Join(dir, to)); err != nil {
		return err
	}
	u.Push(func() error { return os.Remove(filepath.Join(dir, to)) })
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return db.ExecOne(ctx, tx, stmtBackupRename, to, b.ID) })
	if err != nil {
		return err
	}
	u.Commit()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		log.From(ctx).Warn("Could not forget the old name of a backup", "instance", i.Name, "backup", name, "err", err)
	}
	b.Name = to
	s.Bus.Lifecycle("instance-backup-renamed", b.Ref(i), by, map[string]any{"old_name": i.Name + "/" + name})
	return nil
}

// withBackups loads the instances of this member that have backups.
func (s *Service) withBackups(ctx context.Context) ([]*Instance, map[int64][]*Backup, error) {
	all, err := s.these(ctx, stmtWithBackups)
	if err != nil || len(all) == 0 {
		return nil, nil, err
	}
	backups, err := s.loadBackups(ctx, all...)
	return all, backups, err
}

// dropOldBackups deletes the backups whose time is over.
func (s *Service) dropOldBackups(ctx context.Context, now time.Time) error {
	all, backups, err := s.withBackups(ctx)
	if err != nil {
		return err
	}
	over := func(b *Backup) bool { return !b.Expires.IsZero() && !b.Expires.After(now) }
	all = slices.DeleteFunc(all, func(i *Instance) bool { return !slices.ContainsFunc(backups[i.ID], over) })
	return s.together(ctx, doBackupExpire, all, func(ctx context.Context, i *Instance) error {
		for _, b := range backups[i.ID] {
			if !over(b) {
				continue
			}
			if err := s.DeleteBackup(ctx, i, b.Name, nil); err != nil && !errs.Is(err, errs.KindNotFound) {
				return err
			}
		}
		return nil
	})
}

// sweepBackups makes files and records of backups agree after a start of the daemon, and
// removes what was half-packed or half-received. The folders of instances that are not
// among mine stay: whoever has lost the database needs his backups most.
func (s *Service) sweepBackups(ctx context.Context, mine []*Instance) error {
	for _, pattern := range []string{"lxd_export_*", "lxd_import_*"} {
		left, err := filepath.Glob(filepath.Join(s.backupRoot(), pattern))
		if err != nil {
			return err
		}
		for _, path := range left {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	all, backups, err := s.withBackups(ctx)
	if err != nil {
		return err
	}
	files := map[string]bool{}
	for _, i := range all {
		for _, b := range backups[i.ID] {
			path := filepath.Join(s.backupDir(i.Project, i.Name), b.Name)
			if _, err := os.Lstat(path); err == nil {
				files[path] = true
				continue
			}
			log.From(ctx).Warn("A backup is lost: its file is not there", "instance", i.Name, "backup", b.Name)
			err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
				_, err := db.Exec(ctx, tx, stmtBackupDelete, b.ID)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	// As long as a rename is not taken back, its backups may be under either name.
	renames, err := db.Select[int64](ctx, s.DB, stmtHalfRenamed, s.Here.ID(), pendingRename+"*")
	if err != nil || len(renames) > 0 {
		return err
	}
	for _, i := range mine {
		dir := s.backupDir(i.Project, i.Name)
		es, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range es {
			if path := filepath.Join(dir, e.Name()); !files[path] {
				if err := os.RemoveAll(path); err != nil {
					return err
				}
				log.From(ctx).Info("Removed a backup that was half-made or half-deleted", "file", path)
			}
		}
		_ = os.Remove(dir)
	}
	return nil
}
