package image

import (
	"net/http"

	"sett/lxd/auth"
	"sett/lxd/entity"
	"sett/lxd/rest"
	"sett/shared/api"
)

const exportPath = "/1.0/images/{fingerprint}/export"

// Routes are the endpoints under /1.0/images.
func (s *Service) Routes() []rest.Route {
	base := rest.Route{Scope: rest.InProject, Feature: "features.images"}
	at := func(path string, k entity.Kind) rest.Route {
		r := base
		r.Path, r.Kind = "/1.0/images"+path, k
		return r
	}
	all, one := at("", ""), at("/{fingerprint}", entity.Image)
	one.Where, one.Locate = rest.OnObject, s.locate
	export, secret, refresh := at("/{fingerprint}/export", entity.Image), at("/{fingerprint}/secret", entity.Image), at("/{fingerprint}/refresh", entity.Image)
	aliases, alias := at("/aliases", ""), at("/aliases/{name...}", entity.ImageAlias)
	body := func(v any) func(*rest.Route) { return func(r *rest.Route) { r.Body.Type = v } }
	reply := func(v any) func(*rest.Route) { return func(r *rest.Route) { r.Reply = v } }
	etag := func(r *rest.Route) { r.ETag = true }
	stream := func(r *rest.Route) { r.Body = rest.Body{Type: api.ImagesPost{}, Stream: true} }
	made := func(r *rest.Route) { r.Where, r.Locate = rest.OnObject, s.locateSource }
	export.Where, export.Locate = rest.OnObject, s.locate
	file := rest.Route{Path: "/internal/images/{fingerprint}"}
	part := rest.Route{Path: "/internal/images/{fingerprint}/{part}"}
	return []rest.Route{
		all.As(http.MethodGet, "List the images", auth.Public, s.handleList, reply([]api.Image{}), func(r *rest.Route) { r.Lists = true }),
		all.As(http.MethodPost, "Add an image", auth.EditProject, s.handleCreate, stream, made),
		one.As(http.MethodGet, "Show an image", auth.Public, s.handleGet, reply(api.Image{}), etag),
		one.As(http.MethodPut, "Replace what can change about an image", auth.EditProject, s.handlePut, body(api.ImagePut{}), etag),
		one.As(http.MethodPatch, "Change an image", auth.EditProject, s.handlePatch, body(api.ImagePut{}), etag),
		one.As(http.MethodDelete, "Delete an image", auth.EditProject, s.handleDelete),
		export.As(http.MethodGet, "Download an image", auth.Public, s.handleExport),
		export.As(http.MethodPost, "Push an image to another server", auth.EditProject, s.unbuilt("Pushing images to other servers"), body(api.ImageExportPost{})),
		secret.As(http.MethodPost, "Let somebody download a private image once", auth.EditProject, s.handleSecret),
		refresh.As(http.MethodPost, "Fetch an image anew from where it came from", auth.EditProject, s.unbuilt("Refreshing images")),
		part.As(http.MethodGet, "Fetch a file of an image", auth.Member, s.handlePart),
		file.As(http.MethodDelete, "Remove the files of a deleted image", auth.Member, s.handlePartDelete),
		aliases.As(http.MethodGet, "List the aliases of images", auth.Public, s.handleAliases, reply([]api.ImageAliasesEntry{})),
		aliases.As(http.MethodPost, "Create an alias of an image", auth.EditProject, s.handleAliasCreate, body(api.ImageAliasesPost{})),
		alias.As(http.MethodGet, "Show an alias", auth.Public, s.handleAlias, reply(api.ImageAliasesEntry{}), etag),
		alias.As(http.MethodPut, "Replace what an alias says", auth.EditProject, s.handleAliasPut, body(api.ImageAliasesEntryPut{}), etag),
		alias.As(http.MethodPatch, "Change what an alias says", auth.EditProject, s.handleAliasPatch, body(api.ImageAliasesEntryPut{}), etag),
		alias.As(http.MethodPost, "Rename an alias", auth.EditProject, s.handleAliasRename, body(api.ImageAliasesEntryPost{})),
		alias.As(http.MethodDelete, "Delete an alias", auth.EditProject, s.handleAliasDelete),
	}
}
