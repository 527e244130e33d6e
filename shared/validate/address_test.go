package validate_test

import (
	"testing"

	"sett/shared/validate"
)

func TestListenAddress(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"10.0.0.1:8443": "10.0.0.1:8443", "[::]:1": "[::]:1", ":8443": ":8443", "10.0.0.1": "10.0.0.1:8443", "fd42::1": "[fd42::1]:8443",
		"[fd42::1]": "[fd42::1]:8443", "host.example": "host.example:8443", "host:": "host:8443", "127.0.0.1:0": "127.0.0.1:0", "[::1]:99": "[::1]:99",
		"*:8443": "", "a b": "", "1.2.3.4:99999": "", "1.2.3.4:x": "", "https://1.2.3.4": "", "a:b:c": "", "-x": "",
	} {
		got, err := validate.ListenAddress(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}
