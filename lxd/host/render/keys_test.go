package render_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"sett/lxd/host/render"
)

// A session's key, for processes that find out who has it.
const secret = "sett-render-test"

// keys plays a part in TestTheChildHasNotTheKeysOfTheDaemon, and ends, where the program
// was started for one.
func keys() {
	if len(os.Args) < 2 {
		return
	}
	seen := func() bool {
		_, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", secret, 0)
		return err == nil
	}
	switch os.Args[1] {
	case "-with-key": // becomes a process all threads of which have the key
		runtime.LockOSThread()
		_, err := unix.KeyctlJoinSessionKeyring(secret)
		if err == nil {
			_, err = unix.AddKey("user", secret, []byte("x"), unix.KEY_SPEC_SESSION_KEYRING)
		}
		if err == nil {
			err = unix.Exec("/proc/self/exe", []string{os.Args[0], "-has-key"}, os.Environ())
		}
		fmt.Println(err)
		os.Exit(1)
	case "-has-key": // stands for the daemon
		out, err := render.Jail{Command: []string{"/proc/self/exe", "-look"}}.Render(context.Background(), job("{# hard #}"))
		fmt.Println("daemon:", seen(), "child:", out, err)
		os.Exit(0)
	case "-look": // stands for the child
		_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"texts": []string{fmt.Sprint(seen())}})
		os.Exit(0)
	}
}
