package daemon

import (
	"io"
	"net"
	"path/filepath"
	"testing"
)

// Who collects what comes in is told when there is no more of it, and not before.
func TestReadsTellWhenTheyWait(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := localListener{l}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	told := 0
	server.(*localConn).BeforeRead(func() {
		told++
		switch told { // what comes from here on has been waited for
		case 1, 2:
			_, err = io.WriteString(client, []string{"", "abcdef", "late"}[told])
		case 3:
			err = client.Close()
		}
		if err != nil {
			t.Error(err)
		}
	})
	buf := make([]byte, 4)
	for _, c := range []struct {
		want string
		told int
	}{{"abcd", 1}, {"ef", 1}, {"late", 2}} {
		n, err := server.Read(buf)
		if err != nil || string(buf[:n]) != c.want || told != c.told {
			t.Fatalf("%q, %v after %d times, not %q after %d", buf[:n], err, told, c.want, c.told)
		}
	}
	if n, err := server.Read(buf); err != io.EOF {
		t.Errorf("%d bytes and %v of a closed connection", n, err)
	}
}
