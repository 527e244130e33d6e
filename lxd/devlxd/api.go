package devlxd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"sett/lxd/instance"
	"sett/shared/api"
	"sett/shared/errs"
)

// routes is the whole API.
func (s *Service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.guest(s.root))
	mux.HandleFunc("GET /1.0", s.guest(s.get))
	mux.HandleFunc("PATCH /1.0", s.guest(s.patch))
	mux.HandleFunc("GET /1.0/config", s.guest(s.config))
	mux.HandleFunc("GET /1.0/config/{key}", s.guest(s.configKey))
	mux.HandleFunc("GET /1.0/devices", s.guest(s.devices))
	mux.HandleFunc("GET /1.0/meta-data", s.guest(s.metaData))
	mux.HandleFunc("GET /1.0/images/{fingerprint}/export", s.guest(s.image))
	mux.HandleFunc("GET /1.0/events", s.streams(s.events))
	return mux
}

type handler func(w http.ResponseWriter, r *http.Request, i *instance.Instance) error

// guest lets through root of an instance that has this API. What the daemon itself got
// wrong is not told.
func (s *Service) guest(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		done, err := busy(r)
		if err != nil {
			return // it has gone
		}
		defer done()
		i, err := s.authenticate(r)
		if err == nil {
			err = h(w, r, i)
		}
		s.fail(w, r, err)
	}
}

// streams does the same for answers that have no end: these do not keep the guest from
// asking more.
func (s *Service) streams(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		done, err := busy(r)
		if err != nil {
			return
		}
		i, err := s.authenticate(r)
		done()
		if err == nil {
			err = h(w, r, i)
		}
		s.fail(w, r, err)
	}
}

func (s *Service) fail(w http.ResponseWriter, r *http.Request, err error) {
	if err == nil {
		return
	}
	text := err.Error()
	code := errs.Status(err)
	if code == http.StatusInternalServerError {
		s.Log.Debug("Could not answer a guest", "path", r.URL.Path, "err", err)
		text = http.StatusText(code)
	}
	if c, ok := r.Context().Value(callerKey{}).(*conn); !ok || c.err != nil {
		// Whose a connection is does not change; one that was too early tries another.
		w.Header().Set("Connection", "close")
	}
	http.Error(w, text, code)
}

// busy waits until a guest's requests before this one have been answered.
func busy(r *http.Request) (done func(), err error) {
	c, ok := r.Context().Value(callerKey{}).(*conn)
	if !ok {
		return func() {}, nil
	}
	select {
	case c.guest.busy <- struct{}{}:
		return func() { <-c.guest.busy }, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func (s *Service) authenticate(r *http.Request) (*instance.Instance, error) {
	c, ok := r.Context().Value(callerKey{}).(*conn)
	if !ok || s.settle(r.Context(), c) != nil || c.caller.Instance == 0 {
		return nil, errs.Forbidden("Only processes of an instance get answers here")
	}
	i, err := s.seen.get(r.Context(), c.caller.Instance, s.Instances.LoadID)
	if err != nil {
		return nil, err
	}
	if i == nil {
		return nil, errs.Forbidden("The instance is gone")
	}
	uid := c.caller.UID
	if m := s.Instances.IDMap(i); !m.Empty() {
		if uid, ok = m.GuestUID(uid); !ok {
			uid = -1
		}
	}
	if uid != 0 {
		return nil, errs.Unauthorized("Access denied for non-root user")
	}
	if !instance.GuestAPI.Get(i.ExpandedConfig()) {
		return nil, errs.Forbidden("not authorized")
	}
	return i, nil
}

// earlyTime is how long a guest is waited for whose start the daemon has not seen the
// end of: its first process may ask before.
const earlyTime = 10 * time.Second

// settle finds whose a connection is that was nobody's when it was made. A connection
// has one request at a time.
func (s *Service) settle(ctx context.Context, c *conn) error {
	if c.err == nil || c.find == nil {
		return c.err
	}
	ctx, cancel := context.WithTimeout(ctx, earlyTime)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		// In this order: one that starts no more can be found.
		starts := s.Instances.Starting()
		if caller, err := c.find(); err == nil {
			c.caller, c.err = caller, nil
			return nil
		}
		if !starts {
			return c.err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return c.err
		}
	}
}

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

func writeRaw(w http.ResponseWriter, text string) error {
	w.Header().Set("Content-Type", "application/octet-stream")
	_, err := io.WriteString(w, text)
	return err
}

func (s *Service) root(w http.ResponseWriter, _ *http.Request, _ *instance.Instance) error {
	return writeJSON(w, []string{"/1.0"})
}

const (
	started = "Started"
	ready   = "Ready"
)

func (s *Service) get(w http.ResponseWriter, _ *http.Request, i *instance.Instance) error {
	a := api.DevLXDGet{DevLXDPut: api.DevLXDPut{State: started}, APIVersion: "1.0", Location: s.Location(), InstanceType: "container"}
	if i.IsReady() {
		a.State = ready
	}
	return writeJSON(w, a)
}

func (s *Service) patch(w http.ResponseWriter, r *http.Request, i *instance.Instance) error {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(10 * time.Second))
	var b api.DevLXDPut
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&b); err != nil {
		return errs.Invalid("Invalid JSON: %v", err)
	}
	if b.State != started && b.State != ready {
		return errs.Invalid("Invalid state %q (use %s or %s)", b.State, started, ready)
	}
	defer s.seen.forget(i.ID)
	if err := s.Instances.SetReady(r.Context(), i.ID, b.State == ready); err != nil {
		return err
	}
	return writeRaw(w, "")
}

// visible are the keys of an instance that are for its guest.
func visible(key string) bool {
	return strings.HasPrefix(key, "user.") || strings.HasPrefix(key, "cloud-init.")
}

func (s *Service) config(w http.ResponseWriter, _ *http.Request, i *instance.Instance) error {
	urls := []string{}
	for _, k := range slices.Sorted(maps.Keys(i.ExpandedConfig())) {
		if visible(k) {
			urls = append(urls, "/1.0/config/"+k)
		}
	}
	return writeJSON(w, urls)
}

func (s *Service) configKey(w http.ResponseWriter, r *http.Request, i *instance.Instance) error {
	key := r.PathValue("key")
	if !visible(key) {
		return errs.Forbidden("not authorized")
	}
	v, ok := i.ExpandedConfig()[key]
	if !ok {
		return errs.NotFound("not found")
	}
	return writeRaw(w, v)
}

func (s *Service) devices(w http.ResponseWriter, _ *http.Request, i *instance.Instance) error {
	return writeJSON(w, devices(i))
}

// devices are the devices of an instance, with the hardware addresses that were made
// for those that ask for none.
func devices(i *instance.Instance) map[string]map[string]string {
	out := map[string]map[string]string{}
	for name, d := range i.ExpandedDevices() {
		d = maps.Clone(d)
		if hw := i.Config["volatile."+name+".hwaddr"]; d["type"] == "nic" && d["hwaddr"] == "" && hw != "" {
			d["hwaddr"] = hw
		}
		out[name] = d
	}
	return out
}

func (s *Service) metaData(w http.ResponseWriter, _ *http.Request, i *instance.Instance) error {
	return writeRaw(w, fmt.Sprintf("#cloud-config\ninstance-id: %s\nlocal-hostname: %s\n%s", i.GuestID(), i.Name, i.ExpandedConfig()["user.meta-data"]))
}

func (s *Service) image(w http.ResponseWriter, r *http.Request, i *instance.Instance) error {
	if !instance.GuestImages.Get(i.ExpandedConfig()) {
		return errs.Forbidden("not authorized")
	}
	send, err := s.Images.Guest(r.Context(), r.PathValue("fingerprint"))
	if err != nil {
		return err
	}
	return send(w, r)
}
