package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/db"
	"sett/lxd/rest"
	"sett/shared/errs"
	"sett/shared/log"
	"sett/shared/undo"
)

// The record of an image is the cluster's; its files are where it was uploaded and
// where it has been used. images_nodes says which members those are.

const (
	stmtHolders db.Stmt = `
SELECT DISTINCT n.node_id FROM images_nodes AS n JOIN images AS i ON i.id = n.image_id WHERE i.fingerprint = ?`
	stmtHere db.Stmt = `
SELECT DISTINCT i.fingerprint FROM images_nodes AS n JOIN images AS i ON i.id = n.image_id WHERE n.node_id = ?`
	stmtHold db.Stmt = `
INSERT OR IGNORE INTO images_nodes (image_id, node_id) SELECT id, ? FROM images WHERE fingerprint = ?`
	stmtLose db.Stmt = `
DELETE FROM images_nodes WHERE node_id = ? AND image_id IN (SELECT id FROM images WHERE fingerprint = ?)`
	stmtDeleteOf db.Stmt = `
DELETE FROM images WHERE id IN (SELECT image_id FROM images_nodes WHERE node_id = ?1)
AND NOT EXISTS (SELECT 1 FROM images_nodes AS n WHERE n.image_id = images.id AND n.node_id <> ?1)`
)

// DeleteOf drops the records of images that no member has but one that is about to be
// removed from the cluster.
func DeleteOf(ctx context.Context, tx *db.Tx, member int64) error {
	_, err := db.Exec(ctx, tx, stmtDeleteOf, member)
	return err
}

// deleteTime is how long another member has to remove the files of an image. What it
// does not do then, it does at its next start.
const deleteTime = 10 * time.Second

func internalPath(fingerprint, more string) string { return "/internal/images/" + fingerprint + more }

// fetchKey locks the fetching of an image. It is not the lock of the image itself: who
// deletes that waits for its volumes, the making of which may be waiting for us.
type fetchKey string

// ensure has the files of an image on this member: it fetches them from another one
// that has them.
func (s *Service) ensure(ctx context.Context, fingerprint string) error {
	if s.here(fingerprint) {
		return nil
	}
	unlock, err := s.Locks.Lock(ctx, "copy of an image from another member", fetchKey(fingerprint))
	if err != nil {
		return err
	}
	defer unlock()
	if s.here(fingerprint) { // somebody else was faster
		return nil
	}
	ms, err := s.holders(ctx, fingerprint)
	if err != nil {
		return err
	}
	var all []error
	var off []string
	for _, m := range ms {
		if !s.Relay.Online(m) {
			off = append(off, m.Name)
			continue
		}
		err := s.fetch(ctx, m, fingerprint)
		if err == nil {
			log.From(ctx).Info("Copied an image from another member", "image", fingerprint, "member", m.Name)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		all = append(all, err)
	}
	switch {
	case len(all) > 0:
		return fmt.Errorf("Image %q cannot be copied here: %w", short(fingerprint), errors.Join(all...))
	case len(off) > 0:
		return errs.Unavailable("Image %q is only on the cluster members %s, which are offline", short(fingerprint), strings.Join(off, ", "))
	}
	return errs.NotFound("No server has the files of image %q any more; delete it and import it again", short(fingerprint))
}

func short(fingerprint string) string { return fingerprint[:min(12, len(fingerprint))] }

func (s *Service) here(fingerprint string) bool {
	_, err := os.Lstat(s.file(fingerprint))
	return err == nil
}

// holders are the other members that have the files of an image.
func (s *Service) holders(ctx context.Context, fingerprint string) ([]cluster.Member, error) {
	others, err := s.Relay.Others(ctx)
	if err != nil || len(others) == 0 {
		return nil, err
	}
	ids, err := db.Select[int64](ctx, s.DB, stmtHolders, fingerprint)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(others, func(m cluster.Member) bool { return !slices.Contains(ids, m.ID) }), nil
}

// fetch copies the files of an image from a member and checks that they are the ones.
func (s *Service) fetch(ctx context.Context, m cluster.Member, fingerprint string) error {
	dir, err := os.MkdirTemp(filepath.Join(s.Dir, "images"), "lxd_fetch_")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	sum := sha256.New()
	var u undo.Stack
	defer u.Run()
	got := map[string]string{}
	for _, p := range []struct{ part, to string }{{"meta", s.file(fingerprint)}, {"rootfs", s.rootfs(fingerprint)}} {
		resp, err := s.Relay.To(m).Open(ctx, relay.Request{Method: http.MethodGet, Path: internalPath(fingerprint, "/"+p.part)})
		if p.part == "rootfs" && errs.Is(err, errs.KindNotFound) {
			continue // an image of one part
		}
		if err != nil {
			return err
		}
		n, err := s.save(filepath.Join(dir, p.part), resp.Body, sum)
		_ = resp.Body.Close()
		switch {
		case err != nil:
			return full(err)
		case resp.ContentLength >= 0 && n != resp.ContentLength:
			return errs.Unavailable("Cluster member %q has sent %d of %d bytes", m.Name, n, resp.ContentLength)
		}
		got[filepath.Join(dir, p.part)] = p.to
	}
	if have := hex.EncodeToString(sum.Sum(nil)); have != fingerprint {
		return errs.Internal("What cluster member %q has sent as image %q is another one: %s", m.Name, short(fingerprint), short(have))
	}
	// The metadata last: it is what tells that an image is here.
	for _, from := range []string{filepath.Join(dir, "rootfs"), filepath.Join(dir, "meta")} {
		to, ok := got[from]
		if !ok {
			continue
		}
		if err := s.place(from, to); err != nil {
			return full(err)
		}
		u.Push(func() error { return os.Remove(to) })
	}
	if err := s.Sync(filepath.Join(s.Dir, "images")); err != nil {
		return full(err)
	}
	var held int64
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		held, err = db.Exec(ctx, tx, stmtHold, s.Here.ID(), fingerprint)
		return err
	})
	if err != nil {
		return err
	}
	if held == 0 {
		return errs.NotFound("Image %q was deleted in the meantime", short(fingerprint))
	}
	u.Commit()
	return nil
}

// locate finds the member that can answer for the files of an image: this one when it
// has them, or else one that has. A secret is known to the member that gave it out.
func (s *Service) locate(ctx context.Context, r *rest.Request) (int64, error) {
	if secret := r.Query("secret"); secret != "" {
		return secretMember(secret), nil
	}
	if r.Route().Path != exportPath || r.Relayed() {
		return 0, nil
	}
	all, err := matches(ctx, s.DB, r.Effective(), r.Value(0))
	if err != nil || len(all) != 1 || s.here(all[0].Fingerprint) {
		return 0, err // whose handler finds what is wrong
	}
	ms, err := s.holders(ctx, all[0].Fingerprint)
	for _, m := range ms {
		if s.Relay.Online(m) {
			return m.ID, nil
		}
	}
	return 0, err
}

// secretTail is how many hex digits at the end of a secret tell the member that knows it.
const secretTail = 6

// signed makes a secret tell which member gave it out.
func (s *Service) signed(secret string) string {
	return secret[:len(secret)-secretTail] + fmt.Sprintf("%06x", s.Here.ID()&0xffffff)
}

func secretMember(secret string) int64 {
	if len(secret) < secretTail {
		return 0
	}
	id, err := strconv.ParseInt(secret[len(secret)-secretTail:], 16, 64)
	if err != nil {
		return 0
	}
	return id
}

// deleteElsewhere has the other members remove the files of an image that is no more.
func (s *Service) deleteElsewhere(ctx context.Context, fingerprint string, holders []cluster.Member) {
	failed := s.Relay.Tell(ctx, holders, deleteTime, func(cluster.Member) relay.Request {
		return relay.Request{Method: http.MethodDelete, Path: internalPath(fingerprint, "")}
	})
	for _, f := range failed {
		log.From(ctx).Warn("A member still has the files of a deleted image; it removes them at its next start", "member", f.Member.Name, "image", fingerprint, "err", f.Err)
	}
}

// dropFiles removes what this member has of an image that is no more. The files go first:
// what is unpacked of them after the pools have let go of the image, nobody would remove.
func (s *Service) dropFiles(ctx context.Context, fingerprint string) error {
	for _, f := range []string{s.file(fingerprint), s.rootfs(fingerprint)} {
		if err := os.Remove(f); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return s.Pools.DeleteImage(ctx, fingerprint)
}

// The endpoints with which members fetch images from each other and delete them.

func (s *Service) handlePart(_ context.Context, r *rest.Request) (rest.Response, error) {
	fp, part := r.Value(0), r.Value(1)
	if len(fp) != 64 || !isHex(fp) {
		return nil, errs.Invalid("%q is no fingerprint", fp)
	}
	path := ""
	switch part {
	case "meta":
		path = s.file(fp)
	case "rootfs":
		path = s.rootfs(fp)
	default:
		return nil, errs.NotFound("Images have no part %q", part)
	}
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, errs.NotFound("Member %q does not have this part of image %q", s.Here.Name(), short(fp))
	}
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return rest.Raw(func(w http.ResponseWriter, _ *http.Request) error {
		defer f.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(fi.Size(), 10))
		_, err := io.Copy(w, f)
		return err
	}), nil
}

func (s *Service) handlePartDelete(ctx context.Context, r *rest.Request) (rest.Response, error) {
	fp := r.Value(0)
	if len(fp) != 64 || !isHex(fp) {
		return nil, errs.Invalid("%q is no fingerprint", fp)
	}
	unlock, err := s.Locks.Lock(ctx, "delete of an image", ref("", fp))
	if err != nil {
		return nil, err
	}
	defer unlock()
	known, err := db.Select[string](ctx, s.DB, stmtFingerprints)
	if err != nil {
		return nil, err
	}
	if slices.Contains(known, fp) { // it was imported again
		return rest.Empty(), nil
	}
	return rest.Empty(), s.dropFiles(ctx, fp)
}

// settleHere makes the records of which images are on this member agree with its files:
// a daemon may have been killed between the two, or have lost files.
func (s *Service) settleHere(ctx context.Context, files map[string]bool) error {
	if !s.Here.Clustered() {
		return nil
	}
	recorded, err := db.Select[string](ctx, s.DB, stmtHere, s.Here.ID())
	if err != nil {
		return err
	}
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		for fp := range files {
			if !slices.Contains(recorded, fp) {
				if _, err := db.Exec(ctx, tx, stmtHold, s.Here.ID(), fp); err != nil {
					return err
				}
			}
		}
		for _, fp := range recorded {
			if !files[fp] {
				log.From(ctx).Warn("The files of an image are gone from this member", "image", fp)
				if _, err := db.Exec(ctx, tx, stmtLose, s.Here.ID(), fp); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
