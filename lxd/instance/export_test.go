package instance

import (
	"context"
	"time"
)

// TakeScheduled is what the job does, at a time of the test's.
func (s *Service) TakeScheduled(ctx context.Context, after, now time.Time, owed map[int64]bool) error {
	return s.takeScheduled(ctx, after, now, owed)
}

// NextName is the name of a snapshot that was given none.
func NextName(pattern string, taken []string, now time.Time) (string, error) {
	return nextName(pattern, taken, now)
}

// Pause is what the tests look at of the default pause.
var Pause = pause

// Judge names the snapshots that a policy keeps, newest first.
func (s *Service) Judge(ctx context.Context, i *Instance, policy string) ([]string, error) {
	rules, err := retention(policy)
	if err != nil {
		return nil, err
	}
	all, err := s.Snapshots(ctx, i)
	var out []string
	for _, v := range judge(rules, all) {
		if v.Keep {
			out = append(out, v.Snapshot.Name)
		}
	}
	return out, err
}

// DropOldBackups is what the job does, at a time of the test's.
func (s *Service) DropOldBackups(ctx context.Context, now time.Time) error {
	return s.dropOldBackups(ctx, now)
}

// LookForLost is what "lxd recover" shows before it does anything.
func (s *Service) LookForLost(ctx context.Context) (RescueResult, error) {
	f, err := s.search(ctx, nil)
	if err != nil {
		return RescueResult{}, err
	}
	defer f.close()
	return f.result(), nil
}

// Refreshable is what a refresh looks at with the locks of both.
func (s *Service) Refreshable(ctx context.Context, p *Plan, target *Instance) error {
	return s.refreshable(ctx, p, target)
}
