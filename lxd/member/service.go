package member

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"sett/lxd/certificate"
	"sett/lxd/cluster"
	"sett/lxd/db"
	"sett/lxd/db/store"
	"sett/lxd/dqlite"
	"sett/lxd/event"
	"sett/lxd/op"
	"sett/shared/api"
	"sett/shared/errs"
)

// Resources are the pools and networks of the cluster, of which each member has its
// own part. The daemon supplies them.
type Resources interface {
	// JoinConfig lists the settings that a joining server must bring.
	JoinConfig(ctx context.Context) ([]api.ClusterMemberConfigKey, error)
	// CreateHere makes this member's part of all that the cluster has, with the
	// settings that were asked for, and takes it all back when something fails.
	CreateHere(ctx context.Context, config []api.ClusterMemberConfigKey) error
	// Plan is what CreateHere is about to make, for the daemon after one that is killed.
	Plan(ctx context.Context, config []api.ClusterMemberConfigKey) (string, error)
	// DeleteHere takes this member's part away, when it leaves.
	DeleteHere(ctx context.Context) error
}

// Deps are what the service works with.
type Deps struct {
	DB        *db.DB
	Store     *store.Store
	Cluster   *cluster.Cluster
	Bus       *event.Bus
	Ops       *op.Manager
	Identity  *certificate.Identity
	Log       *slog.Logger
	Resources Resources
	// Config is the server's configuration.
	Config func(ctx context.Context) (map[string]string, error)
	// Listen makes the API reachable at an address for members, or at none when it is
	// empty, and keeps that for the next start.
	Listen func(ctx context.Context, address string) (undo func() error, err error)
	// Changed is called when what is remembered of the database may no longer be true:
	// it is another one, or another member has changed it.
	Changed func(ctx context.Context)

	Architecture string
	Extensions   int // of the API
}

// Service holds the rules of clusters.
type Service struct {
	Deps
	here   *cluster.Here
	schema int

	change  sync.Mutex // held while this server becomes a member or stops being one
	given   sync.Mutex // held while what members are given is changed, which the leader does
	beat    chan struct{}
	rooms   rooms
	pace    pace
	refresh refresher
	asking  chan struct{} // taken while a stranger's token is asked for everywhere
	wg      sync.WaitGroup
}

// askAtOnce is for how many strangers at once a member asks all others for a token.
const askAtOnce = 4

// New makes the service. Start begins its heartbeat.
func New(d Deps) (*Service, error) {
	n, err := schemaVersion()
	if err != nil {
		return nil, err
	}
	return &Service{Deps: d, here: d.Cluster.Here(), schema: n, beat: make(chan struct{}, 1), asking: make(chan struct{}, askAtOnce)}, nil
}

// errAlone refuses what only members can do.
var errAlone = errs.Invalid("This server is not clustered")

func (s *Service) clustered() error {
	if !s.here.Clustered() {
		return errAlone
	}
	return nil
}

// find returns a member by name.
func (s *Service) find(ctx context.Context, name string) (cluster.Member, error) {
	if err := s.clustered(); err != nil {
		return cluster.Member{}, err
	}
	return s.Cluster.Member(ctx, name)
}

// Roles of the database, as clients see them, and the ones that administrators give.
const (
	roleLeader  = "database-leader"
	roleVoter   = "database"
	roleStandBy = "database-standby"
	roleHub     = "event-hub"
	roleChassis = "ovn-chassis"
)

var givenRoles = map[string]int64{roleHub: 1, roleChassis: 2}

// list renders all members.
func (s *Service) list(ctx context.Context) ([]api.ClusterMember, error) {
	if err := s.clustered(); err != nil {
		return nil, err
	}
	ms, err := s.Cluster.Members(ctx)
	if err != nil {
		return nil, err
	}
	more, err := loadDetails(ctx, s.DB)
	if err != nil {
		return nil, err
	}
	raft, leader := s.raft(ctx)
	out := make([]api.ClusterMember, 0, len(ms))
	for _, m := range ms {
		if m.State == cluster.StatePending {
			continue
		}
		out = append(out, s.render(m, more[m.ID], raft, leader))
	}
	return out, nil
}

// raft tells who holds the database, and who leads. When the leader cannot be asked
// in time, what this member knows must do.
func (s *Service) raft(ctx context.Context) (all []dqlite.Member, leader uint64) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if all, leader, err := s.Store.Node().Shape(ctx); err == nil {
		return all, leader
	}
	all, err := s.Store.Local.Members().Get(context.WithoutCancel(ctx))
	if err != nil {
		s.Log.Warn("Could not list the members of the database", "err", err)
	}
	return all, leader
}

func (s *Service) render(m cluster.Member, d details, raft []dqlite.Member, leader uint64) api.ClusterMember {
	o := api.ClusterMember{
		ClusterMemberPut: api.ClusterMemberPut{Roles: []string{}, FailureDomain: d.domain, Description: m.Description, Config: d.config, Groups: []string{"default"}},
		ServerName:       m.Name, URL: "https://" + m.Address, Status: "Online", Message: "Fully operational", Architecture: m.Architecture,
	}
	for _, r := range raft {
		if r.ID != uint64(m.ID) {
			continue
		}
		switch r.Role {
		case dqlite.Voter:
			if r.ID == leader {
				o.Roles = append(o.Roles, roleLeader)
			}
			o.Roles, o.Database = append(o.Roles, roleVoter), true
		case dqlite.StandBy:
			o.Roles, o.Database = append(o.Roles, roleStandBy), true
		}
	}
	for name, n := range givenRoles {
		if slices.Contains(d.roles, n) {
			o.Roles = append(o.Roles, name)
		}
	}
	slices.Sort(o.Roles[len(o.Roles)-len(d.roles):])
	switch {
	case !s.Cluster.Online(m):
		seen := s.Cluster.LastSeen(m.ID).Round(0).UTC()
		o.Status, o.Message = "Offline", fmt.Sprintf("No heartbeat for %s (%s)", time.Since(seen), seen)
	case m.State == cluster.StateEvacuated:
		o.Status, o.Message = "Evacuated", "Unavailable due to maintenance"
	case m.Schema < s.schema:
		o.Status, o.Message = "Blocked", "Needs updating to newer version"
	default:
		if free, short := s.rooms.free(m.ID); short {
			o.Message = shortMessage(free)
		}
	}
	return o
}

// Validate words for a name that becomes part of URLs and of DNS.
func checkName(name string) error {
	switch {
	case name == "":
		return errs.Invalid("A cluster member needs a name")
	case name == cluster.AloneName:
		return errs.Invalid("A cluster member cannot be called %q", name)
	case len(name) > 63:
		return errs.Invalid("The name %q is longer than 63 characters", name)
	case strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_')
	}), strings.HasPrefix(name, "-"), strings.HasPrefix(name, "."):
		return errs.Invalid("A cluster member cannot be called %q: letters, digits, dashes, dots and underscores only", name)
	}
	return nil
}

func wildcard(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
