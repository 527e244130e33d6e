package idmap

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
)

// UserNS makes a user namespace with a map and returns a descriptor of it. The
// namespace lives for as long as that is open. No newuidmap is needed: root
// writes the map itself.
//
// A namespace needs a process to begin with. Ours is stopped by ptrace before
// its first instruction and killed once the namespace is open.
func UserNS(m Map) (*os.File, error) {
	if m.Empty() {
		return nil, fmt.Errorf("make a user namespace: the map is empty")
	}
	if err := m.Check(); err != nil {
		return nil, err
	}
	uids, gids := m.Split()
	attr := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, Ptrace: true, Pdeathsig: syscall.SIGKILL,
		UidMappings: sysMap(uids), GidMappings: sysMap(gids), GidMappingsEnableSetgroups: true,
	}
	// Tracer and parent is the thread, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess("/proc/self/exe", []string{"userns"}, &os.ProcAttr{Sys: attr, Env: []string{}})
	if err != nil {
		return nil, fmt.Errorf("make a user namespace: %w", err)
	}
	defer func() {
		_ = p.Kill()
		_, _ = p.Wait()
	}()
	return os.Open(fmt.Sprintf("/proc/%d/ns/user", p.Pid))
}

func sysMap(half Map) []syscall.SysProcIDMap {
	var out []syscall.SysProcIDMap
	for _, e := range half {
		out = append(out, syscall.SysProcIDMap{ContainerID: int(e.NSID), HostID: int(e.HostID), Size: int(e.Range)})
	}
	return out
}
