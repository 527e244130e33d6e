package image

import (
	"sett/lxd/config"
	"sett/lxd/host/pack"
)

// Compression is how images are compressed that are made of instances.
var Compression = config.String("images.compression_algorithm", "gzip", config.Check(func(v string) error {
	_, err := pack.ParseAlgorithm(v)
	return err
}), config.Live(), config.Group("images"), config.Doc("How new images are compressed: none, bzip2, gzip, lz4, xz or zstd, with a level such as -9 if wanted"))

// ServerKeys are the keys of the server's configuration that are about images.
func ServerKeys() []config.Declared { return []config.Declared{Compression} }
