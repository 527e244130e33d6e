package member

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/op"
	"sett/shared/errs"
	"sett/shared/units"
)

// tokenDescription is by what clients find the operations of join tokens.
const tokenDescription = "Cluster join token"

// token makes an operation that holds the secret with which one server may join.
func (s *Service) token(ctx context.Context, name string, by *event.Requestor) (*op.Operation, error) {
	if err := s.clustered(); err != nil {
		return nil, err
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	ms, err := s.Cluster.Members(ctx)
	if err != nil {
		return nil, err
	}
	addresses := []any{}
	for _, m := range ms {
		if m.Name == name && m.State == cluster.StatePending {
			// It was killed on its way in, and nobody will hear of it any more; if it is
			// still coming, it finds that it is not wanted, and stays alone.
			if err := s.forgetWhole(ctx, m); err != nil {
				return nil, err
			}
			continue
		}
		if m.Name == name {
			return nil, errs.Invalid("The cluster already has a member with name: %s", name)
		}
		if s.Cluster.Online(m) && m.State != cluster.StatePending {
			addresses = append(addresses, m.Address)
		}
	}
	c, err := s.Config(ctx)
	if err != nil {
		return nil, err
	}
	until, err := units.Expiry(time.Now(), joinTokenExpiry.Get(c))
	if err != nil {
		return nil, err
	}
	// A server has one token: the last.
	for _, o := range s.Ops.List() {
		if isToken(o, name) {
			_ = o.Cancel() // one that has ended by itself is as good
		}
	}
	secret := rand.Text()
	o, err := s.Ops.Start(ctx, op.Spec{Class: op.Token, Description: tokenDescription, Requestor: by, Secret: secret,
		MoreResources: map[string][]string{"cluster": {}},
		Metadata: map[string]any{"serverName": name, "secret": secret, "fingerprint": s.Identity.Network().Fingerprint(),
			"addresses": addresses, "expiresAt": until.UTC().Format(time.RFC3339Nano)}})
	if err != nil {
		return nil, err
	}
	t := time.AfterFunc(time.Until(until), func() { _ = o.Cancel() })
	go func() {
		<-o.Done()
		t.Stop()
	}()
	s.Bus.Lifecycle("cluster-token-created", entity.New(entity.Member, "", name), by, nil)
	return o, nil
}

func isToken(o *op.Operation, name string) bool {
	select {
	case <-o.Done():
		return false
	default:
	}
	return o.Description() == tokenDescription && o.Metadata("serverName") == name
}

// checkToken reports whether a secret lets a server join; use makes it the last time.
func (s *Service) checkToken(name, secret string, use bool) bool {
	if secret == "" {
		return false
	}
	if use {
		return s.Ops.Token(secret, func(o *op.Operation) bool { return isToken(o, name) }) != nil
	}
	for _, o := range s.Ops.List() {
		if isToken(o, name) && o.HasSecret(secret) {
			return true
		}
	}
	return false
}

// TokenRequest asks about a join token.
type TokenRequest struct {
	Name   string `json:"name"`
	Secret string `json:"secret"`
	Use    bool   `json:"use"`
}

// anyToken asks all members, as a token is known to the one that made it.
func (s *Service) anyToken(ctx context.Context, name, secret string, use bool) error {
	if s.checkToken(name, secret, use) {
		return nil
	}
	// Strangers are the reason for this: what they ask reaches all members only so often.
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	found := make(chan struct{}, 1)
	s.Cluster.Notify(ctx, func(ctx context.Context, m cluster.Member) error {
		err := s.relay().To(m).Call(ctx, relay.Request{Method: http.MethodPost, Path: pathToken,
			Body: TokenRequest{Name: name, Secret: secret, Use: use}}, nil)
		if err == nil {
			select {
			case found <- struct{}{}:
			default:
			}
		}
		return err
	})
	select {
	case <-found:
		return nil
	default:
		return errs.Forbidden("The join token is not valid: it was used, was revoked, has expired, or is for a server of another name")
	}
}
