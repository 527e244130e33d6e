package instance

import (
	"context"
	"errors"
	"slices"

	"sett/lxd/container"
	"sett/shared/log"
)

// counted is an instance that may use some number of CPUs, no matter which.
type counted struct {
	count int
	have  []int
}

// spread gives each instance the CPUs to which the fewest others are tied; load is how
// many fixed ones are tied to each. Who is well placed stays where it is: to move costs
// what the caches hold.
func spread(online []int, load map[int]int, all []counted) [][]int {
	out := make([][]int, len(all))
	for n, c := range all {
		if c.count >= len(online) {
			continue // all of them: tied to none
		}
		pick := slices.Clone(online)
		slices.SortStableFunc(pick, func(a, b int) int {
			if d := load[a] - load[b]; d != 0 {
				return d
			}
			switch x, y := slices.Contains(c.have, a), slices.Contains(c.have, b); {
			case x && !y:
				return -1
			case y && !x:
				return 1
			}
			return 0
		})
		pick = pick[:c.count]
		slices.Sort(pick)
		for _, cpu := range pick {
			load[cpu]++
		}
		out[n] = pick
	}
	return out
}

// balance places anew the running instances that have a number of CPUs, after one of
// them, or one with CPUs of its own, has come, gone or changed.
func (s *Service) balance(ctx context.Context) {
	s.balancing.Lock()
	defer s.balancing.Unlock()
	online, err := onlineCPUs()
	if err != nil {
		log.From(ctx).Warn("Could not read which CPUs there are", "err", err)
		return
	}
	var who []*live
	var all []counted
	load := map[int]int{}
	for _, l := range s.inOrder() {
		l.mu.Lock()
		switch {
		case l.proc == nil || !l.state.alive():
		case l.count > 0:
			who, all = append(who, l), append(all, counted{l.count, l.cpus})
		default:
			for _, c := range l.cpus {
				load[c]++
			}
		}
		l.mu.Unlock()
	}
	for n, want := range spread(online, load, all) {
		if l := who[n]; !slices.Equal(want, all[n].have) {
			if err := l.tie(ctx, want); err != nil && !errors.Is(err, container.ErrNotRunning) {
				log.From(ctx).Warn("Could not move an instance to other CPUs", "cpus", want, "err", err)
			}
		}
	}
}

// inOrder are the instances by age, so that balancing twice gives the same.
func (s *Service) inOrder() []*live {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []int64
	for id := range s.live {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	out := make([]*live, len(ids))
	for n, id := range ids {
		out[n] = s.live[id]
	}
	return out
}

// tie puts a running instance on some CPUs.
func (l *live) tie(ctx context.Context, cpus []int) error {
	l.mu.Lock()
	p, was := l.proc, l.limits
	l.mu.Unlock()
	if p == nil {
		return container.ErrNotRunning
	}
	now := was
	now.CPUSet = formatSet(cpus)
	if err := p.SetLimits(ctx, was, now); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.proc == p {
		l.cpus, l.limits.CPUSet = cpus, now.CPUSet
	}
	return nil
}

// limited notes the limits that are in force. mu is held.
func (l *live) limited(i *Instance, lim container.Limits) {
	l.limits, l.cpus = lim, nil
	if lim.CPUSet != "" {
		_, l.cpus, _ = parseCPU(onlyRanges(lim.CPUSet))
	}
	l.count, _, _ = parseCPU(LimitCPU.Get(i.ExpandedConfig()))
}
