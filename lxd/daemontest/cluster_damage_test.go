package daemontest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sett/lxd/daemon"
	"sett/lxd/daemontest"
)

// hurt changes a byte in the middle of what a stopped server has of the shared database.
func hurt(t *testing.T, s *daemontest.Server) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.Dir, "database", "global", "0*-0*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no segments: %v, %v", files, err)
	}
	path := files[len(files)-1]
	data, err := os.ReadFile(path)
	s.Must(err)
	data[len(data)/2] ^= 0xff
	s.Must(os.WriteFile(path, data, 0o600))
}

// TestADamagedMemberGetsTheDatabaseAnew: the others have all that it had.
func TestADamagedMemberGetsTheDatabaseAnew(t *testing.T) {
	t.Parallel()
	ms := daemontest.Cluster(t, 3)
	a, c := ms[0], ms[2]
	voters := func() bool {
		n := 0
		for _, m := range members(t, a) {
			if strings.Contains(strings.Join(m.Roles, " ")+" ", "database ") {
				n++
			}
		}
		return n == 3
	}
	eventually(t, "three voters", voters)
	c.Stop()
	hurt(t, c)
	a.Must(a.CreateProfile(profile("meanwhile")))
	c.Start()
	wantProfiles(t, c, "meanwhile")
	eventually(t, "three voters again", voters)
	if _, err := os.Stat(filepath.Join(c.Dir, "database", "global.damaged")); err != nil {
		t.Error(err)
	}
	// What it holds now is whole.
	c.Restart()
	ms[1].Stop()
	c.Must(c.CreateProfile(profile("own")))
	wantProfiles(t, a, "meanwhile", "own")
}

// TestADamagedMemberWithoutTheOthersIsLeftAlone: nobody could give it what it has lost.
func TestADamagedMemberWithoutTheOthersIsLeftAlone(t *testing.T) {
	t.Parallel()
	ms := daemontest.Cluster(t, 2)
	for _, m := range ms {
		m.Stop()
	}
	hurt(t, ms[0])
	_, err := daemon.Start(t.Context(), ms[0].Options())
	wantError(t, err, "damaged")
	wantError(t, err, "cannot be told now")
	if _, err := os.Stat(filepath.Join(ms[0].Dir, "database", "global.damaged")); !os.IsNotExist(err) {
		t.Errorf("the folder was set aside: %v", err)
	}
}
