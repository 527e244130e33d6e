package certificate_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"sett/lxd/auth"
	"sett/lxd/certificate"
	"sett/lxd/db"
	"sett/lxd/db/dbtest"
	"sett/lxd/event"
	"sett/lxd/rest"
	"sett/shared/keypair"
)

// TestChangesAtOnceLoseNothing changes one certificate from many sides.
func TestChangesAtOnceLoseNothing(t *testing.T) {
	t.Parallel()
	d := dbtest.Open(t)
	s := certificate.New(certificate.Deps{DB: d, Bus: event.NewBus("")})
	asked := make(chan struct{}, 100)
	server := rest.New(rest.Deps{
		Log: slog.New(slog.DiscardHandler),
		Authenticate: func(*http.Request) (auth.Caller, error) {
			asked <- struct{}{}
			return auth.Caller{Protocol: "unix", Admin: true}, nil
		},
	}, s.Routes())
	p, err := keypair.NewClient()
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Add(t.Context(), certificate.Certificate{Type: certificate.Client, Name: "start"}, p.Leaf, nil)
	if err != nil {
		t.Fatal(err)
	}
	do := func(method, body, tag string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(method, "/1.0/certificates/"+c.Fingerprint, strings.NewReader(body))
		req.Header.Set("If-Match", tag)
		w := httptest.NewRecorder()
		server.ServeHTTP(w, req)
		return w
	}
	tag := do("GET", "", "").Header().Get("ETag")
	<-asked
	var changed atomic.Int64
	var wg sync.WaitGroup
	// Somebody else is writing until all have come, and have read what there is.
	writing, come := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		if err := d.Update(t.Context(), func(context.Context, *db.Tx) error {
			close(writing)
			<-come
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	<-writing
	const many = 8
	for n := range many {
		wg.Go(func() {
			switch w := do("PATCH", fmt.Sprintf(`{"name":"%d"}`, n), tag); w.Code {
			case http.StatusOK:
				changed.Add(1)
			case http.StatusPreconditionFailed:
			default:
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	for range many {
		<-asked
	}
	do("GET", "", "")
	close(come)
	wg.Wait()
	if changed.Load() != 1 {
		t.Errorf("%d changes of the same state", changed.Load())
	}
	// Those without a condition change what they name and nothing else.
	wg.Go(func() { do("PATCH", `{"name":"new"}`, "") })
	wg.Go(func() { do("PATCH", `{"restricted":true}`, "") })
	wg.Wait()
	if now := do("GET", "", "").Body.String(); !strings.Contains(now, `"name":"new"`) || !strings.Contains(now, `"restricted":true`) {
		t.Errorf("became %s", now)
	}
}
