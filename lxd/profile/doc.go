// Package profile is about profiles: named sets of configuration and devices that
// instances take over in a given order.
//
// Rules: the default profile of each project can be changed, but neither renamed
// nor deleted; a profile in use cannot be deleted; what a profile says must be
// valid for instances. Tables owned: profiles, profiles_config, profiles_devices,
// profiles_devices_config.
//
// The slice is the example that others follow: resource.go declares, api.go
// translates between requests and the service, service.go holds the rules and
// store.go the SQL.
package profile
