package instance

import (
	"context"
	"time"
)

// TakeScheduled is what the job does, at a time of the test's.
func (s *Service) TakeScheduled(ctx context.Context, after, now time.Time) error {
	return s.takeScheduled(ctx, after, now)
}

// NextName is the name of a snapshot that was given none.
func NextName(pattern string, taken []string, now time.Time) (string, error) {
	return nextName(pattern, taken, now)
}

// Pause is what the tests look at of the default pause.
var Pause = pause
