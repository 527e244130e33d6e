package member

import (
	"strconv"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/config"
	"sett/shared/errs"
	"sett/shared/units"
	"sett/shared/validate"
)

// Keys of the server's configuration.
var (
	// HTTPSAddress is where other members reach this one.
	HTTPSAddress = config.String("cluster.https_address", "", config.Check(func(v string) error {
		a, err := validate.ListenAddress(v)
		if err == nil && v != "" && wildcard(a) {
			return errs.Invalid("Other members cannot call %q; name an address of this server", v)
		}
		return err
	}), config.Local(), config.Group("cluster"), config.Doc("Address and port at which other members reach this one"))

	offlineThreshold = config.New("cluster.offline_threshold", "integer", cluster.DefaultOfflineThreshold, "20", func(v string) (time.Duration, error) {
		n, err := strconv.Atoi(v)
		if err != nil || n < 10 {
			return 0, errs.Invalid("must be 10 seconds or more")
		}
		return time.Duration(n) * time.Second, nil
	}, config.Live(), config.Group("cluster"), config.Doc("Seconds of silence after which a member counts as offline"))

	joinTokenExpiry = config.String("cluster.join_token_expiry", "3H", config.Check(func(v string) error {
		_, err := units.Expiry(time.Now(), v)
		return err
	}), config.Live(), config.Group("cluster"), config.Doc("How long a join token is good for, such as 3H or 1d"))

	maxVoters = config.New("cluster.max_voters", "integer", 3, "3", func(v string) (int, error) {
		n, err := strconv.Atoi(v)
		if err != nil || n < 3 || n%2 == 0 {
			return 0, errs.Invalid("must be an odd number of 3 or more")
		}
		return n, nil
	}, config.Live(), config.Group("cluster"), config.Doc("How many members vote in the database; an odd number"))

	maxStandBy = config.New("cluster.max_standby", "integer", 2, "2", func(v string) (int, error) {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 || n > 5 {
			return 0, errs.Invalid("must be between 0 and 5")
		}
		return n, nil
	}, config.Live(), config.Group("cluster"), config.Doc("How many members hold the database and stand by to vote"))
)

// ServerKeys are the keys of the server's configuration that are about the cluster.
func ServerKeys() []config.Declared {
	return []config.Declared{HTTPSAddress, offlineThreshold, joinTokenExpiry, maxVoters, maxStandBy}
}

// Scheduler says which instances are placed on a member without being told to.
var Scheduler = config.Enum("scheduler.instance", "all", []string{"all", "group", "manual"}, config.Live(),
	config.Doc("Which instances are placed here: all, those for a group of members, or those that name this member"))

// Keys are the keys of a member's configuration.
func Keys() config.Table {
	return config.NewTable(Scheduler, config.Any("user.*", config.Live(), config.Doc("Free text of the user's")))
}
