package certificate

import (
	"time"

	"sett/lxd/config"
	"sett/shared/units"
)

// The keys of the server's configuration that trust goes by.
var (
	TrustPassword = config.String("core.trust_password", "", config.Sealed(hash), config.Live(), config.Group("core"),
		config.Doc("Password with which new clients and members trust themselves; tokens are the better way, as they work once"))
	TokenExpiry = config.String("core.remote_token_expiry", "", config.Check(func(v string) error {
		_, err := units.Expiry(time.Now(), v)
		return err
	}), config.Live(), config.Group("core"), config.Doc("How long a token for a new client can be used, such as 1H or 2d; empty is until the server restarts"))
)

// Keys are the keys of the server's configuration that trust goes by.
func Keys() config.Table { return config.NewTable(TrustPassword, TokenExpiry) }
