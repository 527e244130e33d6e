package console

import (
	"errors"
	"testing"

	"github.com/gorilla/websocket"
)

// TestFailedUpgradeLeavesTheStreamFree: a client whose first attempt breaks off tries again.
func TestFailedUpgradeLeavesTheStreamFree(t *testing.T) {
	t.Parallel()
	s := newSession(nil, "c1", 0, 0)
	defer s.end(errDetached)
	broken := errors.New("broken")
	for range 2 {
		err := s.Connect(s.secret[data], func() (*websocket.Conn, error) { return nil, broken })
		if !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	}
}
