package instance

import (
	"context"
	"slices"
	"strconv"

	"sett/lxd/db"
	"sett/lxd/host/idmap"
	"sett/shared/errs"
)

// stmtMaps are the id maps of all other instances that have one of their own. The
// whole cluster counts, so that an instance keeps its map wherever it goes.
const stmtMaps db.Stmt = `
SELECT n.value FROM instances_config AS n
JOIN instances_config AS b ON b.instance_id = n.instance_id AND b.key = 'volatile.idmap.base' AND b.value <> '0'
WHERE n.key = 'volatile.idmap.next' AND n.instance_id <> ?`

// mapFor is the id map with which an instance starts next, and the first host id of
// one that it has for itself, else "0". Such a one is stored at once: it is taken.
func (s *Service) mapFor(ctx context.Context, i *Instance) (idmap.Map, string, error) {
	cfg := i.ExpandedConfig()
	m, err := s.IDs.Map()
	if err != nil {
		return nil, "", err
	}
	raw, err := idmap.ParseRaw(RawIDMap.Get(cfg))
	if err != nil {
		return nil, "", err
	}
	size := IDMapSize.Get(cfg)
	if !IDMapIsolated.Get(cfg) {
		if size > 0 {
			if m, err = m.Part(0, size); err != nil {
				return nil, "", err
			}
		}
		m = m.With(raw)
		return m, "0", m.Check()
	}
	if size == 0 {
		size = idmap.MinRange
	}
	s.maps.Lock()
	defer s.maps.Unlock()
	first, ok := m.HostUID(0)
	if !ok {
		return nil, "", errs.Internal("The host's id map has no root")
	}
	offset, err := s.freeIDs(ctx, i, first, size)
	if err != nil {
		return nil, "", err
	}
	if m, err = m.Part(offset, size); err != nil {
		return nil, "", err
	}
	m = m.With(raw)
	if err := m.Check(); err != nil {
		return nil, "", err
	}
	base := strconv.FormatInt(first+offset, 10)
	if i.Config[volMapBase] != base || i.Config[volMapNext] != m.String() {
		err = s.patchConfig(ctx, i, map[string]string{volMapBase: base, volMapNext: m.String()})
	}
	return m, base, err
}

// freeIDs finds a run of ids that no other instance has for itself, counted from the
// host's first one. The ids that others share come first and are left out.
func (s *Service) freeIDs(ctx context.Context, i *Instance, first, size int64) (int64, error) {
	rows, err := db.Select[string](ctx, s.DB, stmtMaps, i.ID)
	if err != nil {
		return 0, err
	}
	type run struct{ from, to int64 }
	var taken []run
	for _, r := range rows {
		m, err := idmap.Parse(r)
		if err != nil {
			continue
		}
		for _, e := range m {
			if e.UID && e.HostID >= first {
				taken = append(taken, run{e.HostID - first, e.HostID - first + e.Range})
			}
		}
	}
	slices.SortFunc(taken, func(a, b run) int { return int(a.from - b.from) })
	free := func(from int64) bool {
		return !slices.ContainsFunc(taken, func(t run) bool { return from < t.to && t.from < from+size })
	}
	cfg := i.ExpandedConfig()
	if base := IDMapBase.Get(cfg); base > 0 {
		if !free(base - first) {
			return 0, errs.Conflict("Another instance has ids from %d to %d of security.idmap.base", base, base+size-1)
		}
		return base - first, nil
	}
	if base, err := strconv.ParseInt(i.Config[volMapBase], 10, 64); err == nil && base >= first+idmap.MinRange && free(base-first) {
		return base - first, nil // as before
	}
	at := int64(idmap.MinRange)
	for _, t := range taken {
		if at+size <= t.from {
			break
		}
		at = max(at, t.to)
	}
	return at, nil
}
