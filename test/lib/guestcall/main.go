// Command guestcall asks /dev/lxd from inside of a guest, for tests: the small image
// has nothing that speaks to a unix socket. It prints the status and the answer.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "guestcall METHOD PATH [BODY]")
		os.Exit(2)
	}
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", "/dev/lxd/sock")
	}}}
	req, err := http.NewRequest(os.Args[1], "http://lxd"+os.Args[2], strings.NewReader(strings.Join(os.Args[3:], " ")))
	if err == nil {
		var resp *http.Response
		if resp, err = c.Do(req); err == nil {
			fmt.Print(resp.StatusCode, " ")
			_, err = io.Copy(os.Stdout, resp.Body)
		}
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}
