package daemontest_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sett/lxd/daemontest"
	"sett/shared/api"
)

const localPage = 4096

// busyServer has operations to remember, and something to lose: an address in its local
// database, a profile in the shared one.
func busyServer(t *testing.T) *daemontest.Server {
	t.Helper()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	s.Listen()
	s.Must(s.CreateProfile(profile("kept")))
	for i := range 30 {
		s.Create(fmt.Sprint("c", i), "tiny")
	}
	return s
}

func address(t *testing.T, s *daemontest.Server) string {
	t.Helper()
	server, _, err := s.GetServer()
	s.Must(err)
	a, _ := server.Config["core.https_address"].(string)
	return a
}

// TestADamagedHistoryIsNoReasonNotToStart damages each page of the local database, one per
// start. What is in its first page nobody can do without.
func TestADamagedHistoryIsNoReasonNotToStart(t *testing.T) {
	t.Parallel()
	s := busyServer(t)
	was := address(t, s)
	path := filepath.Join(s.Dir, "database", "local.db")
	mended := 0
	for page := 1; page < 40; page++ {
		s.Stop()
		file, err := os.ReadFile(path)
		s.Must(err)
		if page*localPage >= len(file) {
			s.Start()
			break
		}
		whole := bytes.Clone(file)
		copy(file[page*localPage:(page+1)*localPage], bytes.Repeat([]byte{0xa5}, localPage))
		s.Must(os.WriteFile(path, file, 0o600))
		if err := s.TryStart(); err != nil {
			if !strings.Contains(err.Error(), path) {
				t.Errorf("page %d: %v", page+1, err)
			}
			s.Must(os.WriteFile(path, whole, 0o600))
			s.Start()
		} else if _, err := os.Stat(path + ".damaged"); err == nil {
			mended++
			s.Must(os.Remove(path + ".damaged"))
		}
		if got := address(t, s); got != was {
			t.Errorf("page %d: the address was %s and is %s", page+1, was, got)
		}
		wantProfiles(t, s, "kept")
		if _, err := s.GetOperationHistory(false); err != nil {
			t.Errorf("page %d: %v", page+1, err)
		}
		for i := range 3 {
			s.SetState(fmt.Sprint("c", i), "start") // there is a history again
			s.SetState(fmt.Sprint("c", i), "stop")
		}
	}
	if mended == 0 {
		t.Error("nothing was mended")
	}
}

// TestAHistoryThatIsDamagedWhileTheDaemonRuns: it says so, works on, and mends it at the
// next start.
func TestAHistoryThatIsDamagedWhileTheDaemonRuns(t *testing.T) {
	t.Parallel()
	s := busyServer(t)
	was := address(t, s)
	s.Restart() // so that all is in the file
	path := filepath.Join(s.Dir, "database", "local.db")
	file, err := os.ReadFile(path)
	s.Must(err)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	s.Must(err)
	// The first ones hold what is not history.
	for page := 12; page < len(file)/localPage; page++ {
		_, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, localPage), int64(page*localPage))
		s.Must(err)
	}
	s.Must(f.Close())
	for i := range 10 {
		s.SetState(fmt.Sprint("c", i), "start")
		if _, err := s.GetOperationHistory(false); err != nil {
			t.Errorf("the history: %v", err)
		}
		if _, err := s.GetOperations(); err != nil {
			t.Error(err)
		}
	}
	s.Must(s.CreateProfile(profile("more")))
	wantProfiles(t, s, "kept", "more")
	_ = s.End()
	s.Start()
	if got := address(t, s); got != was {
		t.Errorf("the address was %s and is %s", was, got)
	}
	if st, _, err := s.GetInstanceState("c3"); err != nil || st.StatusCode != api.Running {
		t.Errorf("an instance that ran: %v, %v", st, err)
	}
	wantProfiles(t, s, "kept", "more")
}
