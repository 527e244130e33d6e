package instance

import "testing"

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
