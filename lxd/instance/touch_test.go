package instance

import (
	"context"
	"io"
	"testing"

	"sett/lxd/container"
)

func TestWhoMayHaveWrittenIsNoted(t *testing.T) {
	t.Parallel()
	l := &live{}
	idle := l.untouched()
	if idle == nil || !idle() {
		t.Fatal("nobody has touched it")
	}
	l.touch()
	if idle() {
		t.Error("somebody has")
	}
	if idle = l.untouched(); idle == nil || !idle() {
		t.Error("nobody has since")
	}
	for what, l := range map[string]*live{"runs": {state: Running}, "its files are open": {files: map[*Files]bool{{}: true}}} {
		if l.untouched() != nil {
			t.Errorf("somebody can write: it %s", what)
		}
	}
}

// slowServer looks, while its file servers begin and while they end, whether a copy that is
// planned at that moment will know of them.
type slowServer struct {
	container.Engine
	look func()
}

type slowConn struct {
	io.ReadWriteCloser
	look func()
}

func (e slowServer) Files(context.Context, container.FileTree) (io.ReadWriteCloser, error) {
	e.look()
	return slowConn{look: e.look}, nil
}

func (c slowConn) Close() error {
	c.look()
	return nil
}

// TestNobodyWritesUnseenAroundTheStartAndTheEndOfAFileServer: both take a while, and a copy
// may be planned in it.
func TestNobodyWritesUnseenAroundTheStartAndTheEndOfAFileServer(t *testing.T) {
	t.Parallel()
	for snapshot, unseen := range map[string]bool{"": false, "s1": true} {
		l := &live{}
		var idle func() bool
		s := &Service{ctx: t.Context(), Deps: Deps{Engine: slowServer{look: func() { idle = l.untouched() }}}}
		f, err := s.serveFiles(t.Context(), l, container.FileTree{}, snapshot, func() {})
		if err != nil {
			t.Fatal(err)
		}
		if idle == nil || idle() != unseen {
			t.Errorf("a server that began for %q is seen: %v", snapshot, !unseen)
		}
		f.Kill()
		if got := idle != nil && idle(); got != unseen {
			t.Errorf("a server that ended for %q is seen: %v", snapshot, !got)
		}
	}
}

// TestFileServersOfADaemonThatGoesEnd, also those that have just begun.
func TestFileServersOfADaemonThatGoesEnd(t *testing.T) {
	t.Parallel()
	l := &live{}
	ctx, cancel := context.WithCancel(t.Context())
	s := &Service{ctx: ctx, Deps: Deps{Engine: slowServer{look: func() {}}}}
	ended := make(chan bool, 2)
	end := func() { ended <- true }
	if _, err := s.serveFiles(t.Context(), l, container.FileTree{}, "", end); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-ended
	if _, err := s.serveFiles(t.Context(), l, container.FileTree{}, "", end); err != nil {
		t.Fatal(err)
	}
	<-ended
	if len(l.files) != 0 {
		t.Errorf("left: %v", l.files)
	}
}
