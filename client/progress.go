package client

import (
	"fmt"
	"io"
	"time"

	"sett/shared/units"
)

// ProgressData tells how far a transfer is.
type ProgressData struct {
	Text             string // For people: "42% (10.00MB/s)"
	Percentage       int
	TransferredBytes int64
	TotalBytes       int64 // 0: unknown
}

// progressReader reports what goes through it, at most ten times a second.
type progressReader struct {
	r      io.Reader
	total  int64
	report func(ProgressData)

	start, last time.Time
	done        int64
}

func withProgress(r io.Reader, report func(ProgressData)) io.Reader {
	if report == nil {
		return r
	}
	p := &progressReader{r: r, report: report}
	if s, ok := r.(interface{ Len() int }); ok {
		p.total = int64(s.Len())
	}
	return p
}

// WithProgress reports how much of a file of a known size has been read.
func WithProgress(r io.Reader, size int64, report func(ProgressData)) io.Reader {
	return &progressReader{r: r, total: size, report: report}
}

func (p *progressReader) Read(b []byte) (int, error) {
	now := time.Now()
	if p.start.IsZero() {
		p.start, p.last = now, now
	}
	n, err := p.r.Read(b)
	p.done += int64(n)
	if now = time.Now(); now.Sub(p.last) < 100*time.Millisecond && err == nil {
		return n, err
	}
	p.last = now
	d := ProgressData{TransferredBytes: p.done, TotalBytes: max(p.total, 0)}
	speed := int64(float64(p.done) / max(now.Sub(p.start).Seconds(), 1e-3))
	if p.total > 0 {
		d.Percentage = int(100 * p.done / p.total)
		d.Text = fmt.Sprintf("%d%% (%s/s)", d.Percentage, units.GetByteSizeString(speed, 2))
	} else {
		d.Text = fmt.Sprintf("%s (%s/s)", units.GetByteSizeString(p.done, 2), units.GetByteSizeString(speed, 2))
	}
	p.report(d)
	return n, err
}
