package op

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	"sett/shared/units"
)

// progressEvery is how often clients are told how far an operation is.
const progressEvery = time.Second

// Progress tells clients how far a part of an operation is.
type Progress struct {
	o            *Operation
	stage, title string
	total        int64

	mu          sync.Mutex
	start, last time.Time
}

// Progress begins a part of the operation, under the name that clients know it by.
// total is how many bytes there are to do; 0 when nobody knows.
func (o *Operation) Progress(stage, title string, total int64) *Progress {
	now := time.Now()
	return &Progress{o: o, stage: stage, title: title, total: total, start: now, last: now}
}

// At says how many bytes have been done. It may be called as often as one likes, by
// anybody.
func (p *Progress) At(done int64) {
	p.mu.Lock()
	now := time.Now()
	if now.Sub(p.last) < progressEvery {
		p.mu.Unlock()
		return
	}
	p.last = now
	p.mu.Unlock()
	speed := int64(float64(done) / now.Sub(p.start).Seconds())
	more := map[string]string{"stage": p.stage, "processed": strconv.FormatInt(done, 10), "speed": strconv.FormatInt(speed, 10)}
	far := units.GetByteSizeString(done, 2)
	if p.total > 0 {
		percent := min(100*done/p.total, 100)
		far = fmt.Sprintf("%d%%", percent)
		more["percent"] = strconv.FormatInt(percent, 10)
	}
	p.o.Set(map[string]any{
		p.stage + "_progress": fmt.Sprintf("%s: %s (%s/s)", p.title, far, units.GetByteSizeString(speed, 2)),
		"progress":            more,
	})
}
