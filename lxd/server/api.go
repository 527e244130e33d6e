package server

import (
	"context"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/host/ethtool"
	"sett/lxd/host/sysinfo"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
)

func (s *Service) handleRoot(context.Context, *rest.Request) (rest.Response, error) {
	return rest.Sync([]string{"/1.0"}), nil
}

func (s *Service) handleGet(ctx context.Context, r *rest.Request) (rest.Response, error) {
	u := api.ServerUntrusted{APIExtensions: Extensions(), APIStatus: "stable", APIVersion: "1.0", Auth: "untrusted", AuthMethods: []string{"tls"}}
	if !r.Caller().Trusted() {
		if r.Header("X-LXD-authenticated") == "true" {
			return nil, errs.Forbidden("not authorized")
		}
		return rest.Sync(u), nil
	}
	u.Auth = "trusted"
	ctx, cancel := s.early(ctx)
	defer cancel()
	full := api.Server{ServerUntrusted: u, Environment: s.daemon.Environment(ctx)}
	full.Environment.Project = "default"
	if p := r.Query("project"); p != "" {
		full.Environment.Project = p
	}
	cfg, err := s.Config(ctx)
	if err != nil {
		// A member of a cluster that waits for the others is to be seen all the same.
		if !errs.Is(err, errs.KindUnavailable) {
			return nil, err
		}
		if cfg, err = s.ownConfig(r.Context()); err != nil {
			return nil, err
		}
	}
	full.Config = map[string]any{}
	if r.Caller().Admin {
		full.Config = s.keys.Redact(cfg)
	}
	return rest.SyncETag(full, full.Config), nil
}

// early bounds what an answer may wait for the database, which may have no leader now, or
// none yet. Clients begin with this question whatever they want.
func (s *Service) early(ctx context.Context) (context.Context, context.CancelFunc) {
	select {
	case <-s.daemon.Ready():
		return context.WithTimeout(ctx, 3*time.Second)
	default:
		return context.WithTimeout(ctx, time.Second)
	}
}

func (s *Service) handlePut(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.update(ctx, r, false)
}

func (s *Service) handlePatch(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.update(ctx, r, true)
}

func (s *Service) update(ctx context.Context, r *rest.Request, merge bool) (rest.Response, error) {
	s.change.Lock()
	defer s.change.Unlock()
	s.Forget() // a change begins from what is stored, not from what is remembered
	old, err := s.Config(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.CheckETag(s.keys.Redact(old)); err != nil {
		return nil, err
	}
	b, err := rest.Decode[api.ServerPut](r)
	if err != nil {
		return nil, err
	}
	c := map[string]string{}
	if merge {
		c = old
	}
	for k, v := range b.Config {
		switch v := v.(type) {
		case string:
			c[k] = v
		case nil:
			c[k] = ""
		case bool:
			// A secret is shown as true; true sent back means "as it is".
			if i, ok := s.keys.Lookup(k); ok && i.Secret && v {
				c[k] = old[k]
				continue
			}
			c[k] = strconv.FormatBool(v)
		case float64:
			c[k] = strconv.FormatFloat(v, 'f', -1, 64)
		default:
			return nil, errs.Invalid("The value of configuration key %q is neither text nor a number", k)
		}
	}
	return rest.Empty(), s.SetConfig(ctx, c, r.Caller().Requestor())
}

func (s *Service) handleResources(context.Context, *rest.Request) (rest.Response, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, err
	}
	r, err := sysinfo.Host{Link: ethtool.Read}.Read(unix.ByteSliceToString(u.Machine[:]))
	if err != nil {
		return nil, err
	}
	return rest.Sync(r), nil
}

func (s *Service) handleReady(ctx context.Context, r *rest.Request) (rest.Response, error) {
	select {
	case <-s.daemon.Ready():
		return rest.Empty(), nil
	default:
	}
	if r.Query("wait") == "" {
		return nil, errs.Unavailable("LXD daemon not ready yet")
	}
	if err := s.daemon.WaitReady(ctx); err != nil {
		return nil, err
	}
	return rest.Empty(), nil
}

func (s *Service) handleShutdown(ctx context.Context, r *rest.Request) (rest.Response, error) {
	done := s.daemon.Stop(true, r.Query("force") == "true" || r.Query("force") == "1")
	select {
	case err := <-done:
		return rest.Empty(), err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type sqlRequest struct {
	Database string `json:"database"`
	Query    string `json:"query"`
}

func (s *Service) handleSQL(ctx context.Context, r *rest.Request) (rest.Response, error) {
	q, err := rest.Decode[sqlRequest](r)
	if err != nil {
		return nil, err
	}
	if q.Query == "" {
		return nil, errs.Invalid("No query provided")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	res, err := s.daemon.SQL(ctx, q.Database, q.Query)
	if err != nil {
		return nil, err
	}
	return rest.Sync(res), nil
}

func (s *Service) handleDump(ctx context.Context, r *rest.Request) (rest.Response, error) {
	text, err := s.daemon.Dump(ctx, r.Query("database"), r.Query("schema") == "1")
	if err != nil {
		return nil, err
	}
	return rest.Sync(map[string]string{"text": text}), nil
}
