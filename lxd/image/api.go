package image

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"maps"
	"mime"
	"slices"
	"time"

	"sett/lxd/entity"
	"sett/lxd/op"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
)

// sees reports whether a caller may know of an image of a project. Who has a project
// that shares the images of the default one sees those.
func sees(r *rest.Request, project string, public bool) bool {
	return public || r.Caller().Trusted() && (r.Caller().CanSee(project) || project == r.Effective() && r.Caller().CanSee(r.Project().Name))
}

// owns refuses to change what a caller only sees because its project shares it.
func owns(r *rest.Request, project string) error {
	if r.Caller().CanSee(project) {
		return nil
	}
	return errs.Forbidden("not authorized")
}

func (s *Service) handleList(ctx context.Context, r *rest.Request) (rest.Response, error) {
	every, err := r.AllProjects()
	if err != nil {
		return nil, err
	}
	filter, err := r.Filter()
	if err != nil {
		return nil, err
	}
	project := r.Effective()
	if every {
		project = ""
	}
	all, err := s.List(ctx, project)
	if err != nil {
		return nil, err
	}
	objs, urls := []api.Image{}, []string{}
	for _, i := range all {
		if !sees(r, i.Project, i.Public) {
			continue
		}
		o := render(i)
		fits, err := filter.Match(o)
		if err != nil {
			return nil, err
		}
		if fits {
			objs = append(objs, o)
			urls = append(urls, rest.URLs(r.Path(), i.Project, []string{i.Fingerprint})...)
		}
	}
	if r.Recursion() > 0 {
		return rest.Sync(objs), nil
	}
	return rest.Sync(urls), nil
}

// one finds the image of the path for those who may know of it; to others it is not
// there. take uses the secret up with which a stranger comes.
func (s *Service) one(ctx context.Context, r *rest.Request, take bool) (Image, error) {
	prefix := r.Value(0)
	all, err := matches(ctx, s.DB, r.Effective(), prefix)
	if err != nil {
		return Image{}, err
	}
	hidden := slices.Clone(all)
	all = slices.DeleteFunc(all, func(i Image) bool { return !sees(r, i.Project, i.Public) })
	if secret := r.Query("secret"); len(all) == 0 && secret != "" {
		token := s.Ops.PeekToken
		if take {
			token = s.Ops.Token
		}
		for _, i := range hidden {
			if token(secret, func(o *op.Operation) bool {
				return o.Metadata("fingerprint") == i.Fingerprint && o.Project() == i.Project
			}) != nil {
				return i, nil
			}
		}
	}
	return only(prefix, all)
}

// own is one for those who are going to change it.
func (s *Service) own(ctx context.Context, r *rest.Request) (Image, error) {
	i, err := s.one(ctx, r, false)
	if err == nil {
		err = owns(r, i.Project)
	}
	return i, err
}

// isJSON tells a request from an image. Whoever writes requests by hand leaves the type
// of the body to a program that sends forms; no image begins like an object.
func isJSON(r *rest.Request) bool {
	switch typ, _, _ := mime.ParseMediaType(r.Header("Content-Type")); typ {
	case "application/json":
		return true
	case "", "application/x-www-form-urlencoded":
		return r.Begins('{')
	}
	return false
}

func (s *Service) handleCreate(ctx context.Context, r *rest.Request) (rest.Response, error) {
	if isJSON(r) {
		return s.handleMake(ctx, r)
	}
	if r.Header("X-LXD-secret") != "" {
		return nil, errs.NotImplemented("Receiving pushed images is not implemented")
	}
	up, err := s.receive(r)
	if err != nil {
		return nil, err
	}
	project, by := r.Effective(), r.Caller().Requestor()
	o, err := s.Ops.Start(ctx, op.Spec{Description: doImport, Project: r.Project().Name, Requestor: by,
		Run: func(ctx context.Context, o *op.Operation) error {
			defer up.drop() //nolint:errcheck // what is left is removed at the next start
			// Whoever has the image already learns which one it is.
			o.Set(map[string]any{"fingerprint": up.fingerprint, "size": sizeText(up.size)})
			_, err := s.accept(ctx, project, up, by)
			return err
		}})
	if err != nil {
		_ = up.drop()
		return nil, err
	}
	return rest.Async(o.URL(), o.API()), nil
}

func (s *Service) handleGet(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := s.one(ctx, r, false)
	if err != nil {
		return nil, err
	}
	return rest.SyncETag(render(i), etag(i)), nil
}

func (s *Service) handlePut(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.change(ctx, r, false)
}

func (s *Service) handlePatch(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.change(ctx, r, true)
}

func (s *Service) change(ctx context.Context, r *rest.Request, merge bool) (rest.Response, error) {
	i, err := s.own(ctx, r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(), s.Update(ctx, i, func(now Image) (p api.ImagePut, err error) {
		if err := r.CheckETag(etag(now)); err != nil {
			return p, err
		}
		if merge {
			p = render(now).ImagePut
		}
		return p, rest.DecodeOnto(r, &p)
	}, r.Caller().Requestor())
}

func (s *Service) handleDelete(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := s.own(ctx, r)
	if err != nil {
		return nil, err
	}
	by := r.Caller().Requestor()
	o, err := s.Ops.Start(ctx, op.Spec{Description: doDelete, Project: r.Project().Name, Requestor: by,
		Resources: []entity.Ref{ref(i.Project, i.Fingerprint)},
		Run:       func(ctx context.Context, _ *op.Operation) error { return s.Delete(ctx, i, by) }})
	if err != nil {
		return nil, err
	}
	return rest.Async(o.URL(), o.API()), nil
}

// secretTime is how long such a token can be used.
const secretTime = 24 * time.Hour

// handleSecret makes a token with which a stranger may download the image.
func (s *Service) handleSecret(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := s.own(ctx, r)
	if err != nil {
		return nil, err
	}
	var b [32]byte
	_, _ = rand.Read(b[:])
	secret := s.signed(hex.EncodeToString(b[:]))
	o, err := s.Ops.Start(ctx, op.Spec{Class: op.Token, Description: "Image download token", Project: i.Project, Secret: secret, Expires: secretTime,
		Requestor: r.Caller().Requestor(), Resources: []entity.Ref{ref(i.Project, i.Fingerprint)},
		Metadata: map[string]any{"secret": secret, "fingerprint": i.Fingerprint}})
	if err != nil {
		return nil, err
	}
	s.Bus.Lifecycle("image-secret-created", ref(i.Project, i.Fingerprint), r.Caller().Requestor(), nil)
	return rest.Async(o.URL(), o.API()), nil
}

func (s *Service) unbuilt(what string) rest.Handler {
	return func(context.Context, *rest.Request) (rest.Response, error) {
		return nil, errs.NotImplemented("%s is not implemented", what)
	}
}

func render(i Image) api.Image {
	a := api.Image{
		ImagePut: api.ImagePut{AutoUpdate: i.AutoUpdate, Properties: maps.Clone(i.Properties), Public: i.Public, ExpiresAt: i.Expires, Profiles: slices.Clone(i.Profiles)},
		Aliases:  []api.ImageAlias{}, Architecture: i.Architecture, Cached: i.Cached, Filename: i.Filename, Fingerprint: i.Fingerprint,
		Size: i.Size, Type: "container", CreatedAt: i.Created, LastUsedAt: i.Used, UploadedAt: i.Uploaded,
	}
	for _, l := range i.Aliases {
		a.Aliases = append(a.Aliases, api.ImageAlias{Name: l.Name, Description: l.Description})
	}
	return a
}

func etag(i Image) any { return []any{i.Public, i.AutoUpdate, i.Properties} }

func (s *Service) handleAliases(ctx context.Context, r *rest.Request) (rest.Response, error) {
	all, err := s.Aliases(ctx, r.Effective())
	if err != nil {
		return nil, err
	}
	urls, objs := []string{}, []api.ImageAliasesEntry{}
	for _, a := range all {
		if sees(r, a.Project, a.Public) {
			urls = append(urls, rest.URLs(r.Path(), a.Project, []string{a.Name})...)
			objs = append(objs, entry(a))
		}
	}
	if r.Recursion() > 0 {
		return rest.Sync(objs), nil
	}
	return rest.Sync(urls), nil
}

func entry(a Alias) api.ImageAliasesEntry {
	return api.ImageAliasesEntry{ImageAliasesEntryPut: api.ImageAliasesEntryPut{Description: a.Description, Target: a.Target}, Name: a.Name, Type: "container"}
}

func (s *Service) oneAlias(ctx context.Context, r *rest.Request) (Alias, error) {
	a, err := s.Alias(ctx, r.Effective(), r.Value(0))
	if err == nil && !sees(r, a.Project, a.Public) {
		return Alias{}, errs.NotFound("Image alias %q not found", r.Value(0))
	}
	return a, err
}

// ownAlias is oneAlias for those who are going to change it.
func (s *Service) ownAlias(ctx context.Context, r *rest.Request) (Alias, error) {
	a, err := s.oneAlias(ctx, r)
	if err == nil {
		err = owns(r, a.Project)
	}
	return a, err
}

func (s *Service) handleAlias(ctx context.Context, r *rest.Request) (rest.Response, error) {
	a, err := s.oneAlias(ctx, r)
	if err != nil {
		return nil, err
	}
	return rest.SyncETag(entry(a), entry(a)), nil
}

func (s *Service) handleAliasCreate(ctx context.Context, r *rest.Request) (rest.Response, error) {
	b, err := rest.Decode[api.ImageAliasesPost](r)
	if err != nil {
		return nil, err
	}
	if err := s.CreateAlias(ctx, r.Effective(), b.Name, b.Description, b.Target, r.Caller().Requestor()); err != nil {
		return nil, err
	}
	return rest.Created(entity.New(entity.ImageAlias, r.Effective(), b.Name).URL()), nil
}

func (s *Service) handleAliasPut(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.changeAlias(ctx, r, false)
}

func (s *Service) handleAliasPatch(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.changeAlias(ctx, r, true)
}

func (s *Service) changeAlias(ctx context.Context, r *rest.Request, merge bool) (rest.Response, error) {
	a, err := s.ownAlias(ctx, r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(), s.UpdateAlias(ctx, a, func(now Alias) (p api.ImageAliasesEntryPut, err error) {
		if err := r.CheckETag(entry(now)); err != nil {
			return p, err
		}
		if merge {
			p = entry(now).ImageAliasesEntryPut
		}
		return p, rest.DecodeOnto(r, &p)
	}, r.Caller().Requestor())
}

func (s *Service) handleAliasRename(ctx context.Context, r *rest.Request) (rest.Response, error) {
	a, err := s.ownAlias(ctx, r)
	if err != nil {
		return nil, err
	}
	b, err := rest.Decode[api.ImageAliasesEntryPost](r)
	if err != nil {
		return nil, err
	}
	if err := s.RenameAlias(ctx, a, b.Name, r.Caller().Requestor()); err != nil {
		return nil, err
	}
	return rest.Created(entity.New(entity.ImageAlias, a.Project, b.Name).URL()), nil
}

func (s *Service) handleAliasDelete(ctx context.Context, r *rest.Request) (rest.Response, error) {
	a, err := s.ownAlias(ctx, r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(), s.DeleteAlias(ctx, a, r.Caller().Requestor())
}
