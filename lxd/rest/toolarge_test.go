package rest_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sett/lxd/auth"
	"sett/lxd/rest"
)

// TestWhatIsTooLargeIsReadToItsEnd has a client send more than a route takes, where the
// body is read by the chain and where the handler decides whether it is JSON. A member
// that sends a request on hears "connection reset" else, and no answer.
func TestWhatIsTooLargeIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	for _, stream := range []bool{false, true} {
		route := rest.Route{Method: "POST", Path: "/1.0/x", Summary: "x", Need: auth.Admin,
			Handler: func(_ context.Context, r *rest.Request) (rest.Response, error) {
				_, err := rest.Decode[struct{}](r)
				return rest.Empty(), err
			}}
		route.Body.Type, route.Body.Stream = struct{}{}, stream
		s := rest.New(rest.Deps{
			Log:          slog.New(slog.DiscardHandler),
			Authenticate: func(*http.Request) (auth.Caller, error) { return admin, nil },
		}, []rest.Route{route})
		body := strings.NewReader(strings.Repeat(" ", 3*rest.DefaultBodyLimit))
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", "/1.0/x", body))
		if w.Code != http.StatusRequestEntityTooLarge || body.Len() > 0 {
			t.Errorf("stream %v: %d, %d bytes were not read", stream, w.Code, body.Len())
		}
	}
}
