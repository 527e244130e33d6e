package server

import (
	"strconv"
	"time"

	"sett/lxd/certificate"
	"sett/lxd/config"
	"sett/lxd/host/pack"
	"sett/lxd/image"
	"sett/lxd/member"
	"sett/shared/errs"
	"sett/shared/validate"
)

// ShutdownTimeout is how long operations may go on once the daemon is asked to end.
var ShutdownTimeout = config.New("core.shutdown_timeout", "integer", 5*time.Minute, "5", minutes,
	config.Live(), config.Group("core"), config.Doc("Minutes that running operations have to end before the daemon stops"))

// HTTPSAddress is where the API listens on the network.
var HTTPSAddress = config.String("core.https_address", "", config.Check(func(v string) error {
	_, err := validate.ListenAddress(v)
	return err
}), config.Live(), config.Local(), config.Group("core"), config.Doc("Address and port of the API on the network; without one it is reached through its socket only"))

// BackupCompression is how backups are compressed that say nothing of it themselves.
// Instances read it from the database.
var BackupCompression = config.String("backups.compression_algorithm", "gzip", config.Check(func(v string) error {
	_, err := pack.ParseAlgorithm(v)
	return err
}), config.Live(), config.Group("backups"), config.Doc("How backups are compressed: none, or a program such as gzip, zstd or xz, with its level"))

func minutes(v string) (time.Duration, error) {
	d, err := config.Seconds("", 0).Parse(v)
	return d * 60, err
}

// autoUpdate takes the one value that says what this build does: images are not
// refreshed by themselves.
var autoUpdate = config.New("images.auto_update_interval", "integer", int64(0), "0", func(v string) (int64, error) {
	if n, err := strconv.ParseInt(v, 10, 64); err != nil || n != 0 {
		return 0, errs.NotImplemented("The automatic update of images is not implemented; only 0 can be set")
	}
	return 0, nil
}, config.Live(), config.Group("images"), config.Doc("Hours between updates of cached images; 0, the only value yet, is never"))

// unbuilt are server keys of LXD 5.0 that this build refuses by name.
var unbuilt = []string{
	"candid.*", "cluster.images_minimal_replica", "core.bgp_*", "core.debug_address", "core.dns_address",
	"core.https_allowed_*", "core.https_trusted_proxy", "core.metrics_*", "core.proxy_*", "core.storage_buckets_address", "core.trust_ca_certificates", "images.auto_update_*",
	"images.default_architecture", "images.remote_cache_expiry", "maas.*", "network.ovn.*",
	"rbac.*", "storage.backups_volume", "storage.images_volume",
}

// Keys is the table of the server's configuration.
func Keys() config.Table {
	ks := []config.Declared{ShutdownTimeout, HTTPSAddress, autoUpdate, BackupCompression, config.Any("user.*", config.Live(), config.Doc("Free text of the user's"))}
	ks = append(append(ks, member.ServerKeys()...), image.ServerKeys()...)
	for _, k := range unbuilt {
		ks = append(ks, config.Unbuilt(k))
	}
	return config.NewTable(ks...).With(certificate.Keys())
}
