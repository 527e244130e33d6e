package network

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/host/netlink"
	"sett/lxd/network/driver"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
)

func (s *Service) list(ctx context.Context, r *rest.Request) (rest.Response, error) {
	ns, err := s.List(ctx, r.Effective())
	if err != nil {
		return nil, err
	}
	others, err := s.others(ctx, r.Effective(), ns)
	if err != nil {
		return nil, err
	}
	if r.Recursion() == 0 {
		names := []string{}
		for _, n := range ns {
			names = append(names, n.Name)
		}
		for _, i := range others {
			names = append(names, i.Name)
		}
		return rest.Sync(rest.URLs(r.Path(), r.Effective(), names)), nil
	}
	used, err := loadUsers(ctx, s.DB)
	if err != nil {
		return nil, err
	}
	objs := []api.Network{}
	for _, n := range ns {
		o := s.render(n, used, s.viewOf(r))
		o.UsedBy = r.Visible(o.UsedBy)
		objs = append(objs, o)
	}
	for _, i := range others {
		o := unmanaged(i, used)
		o.UsedBy = r.Visible(o.UsedBy)
		objs = append(objs, o)
	}
	return rest.Sync(objs), nil
}

// others are the host's interfaces that no network is. The ends of veth pairs are
// left out: there is one per running instance, and nobody looks for them here.
func (s *Service) others(ctx context.Context, project string, managed []Network) ([]netlink.Interface, error) {
	if project != entity.DefaultProject {
		return nil, nil
	}
	all, err := s.Host.Interfaces(ctx)
	if err != nil {
		return nil, err
	}
	ours := map[string]bool{}
	for _, n := range managed {
		ours[n.Name] = true
	}
	var out []netlink.Interface
	for _, i := range all {
		if !ours[i.Name] && !strings.HasPrefix(i.Name, "veth") {
			out = append(out, i)
		}
	}
	return out, nil
}

func (s *Service) create(ctx context.Context, r *rest.Request) (rest.Response, error) {
	b, err := rest.Decode[api.NetworksPost](r)
	if err != nil {
		return nil, err
	}
	n := Network{Project: r.Effective(), Name: b.Name, Description: b.Description, Type: b.Type, Config: b.Config}
	if err := s.createIn(ctx, n, r); err != nil {
		return nil, err
	}
	return rest.Created(n.Ref().URL()), nil
}

func (s *Service) get(ctx context.Context, r *rest.Request) (rest.Response, error) {
	used, err := loadUsers(ctx, s.DB)
	if err != nil {
		return nil, err
	}
	n, err := s.Load(ctx, r.Effective(), r.Name())
	if err == nil {
		o := s.render(n, used, s.viewOf(r))
		o.UsedBy = r.Visible(o.UsedBy)
		return rest.SyncETag(o, etag(o)), nil
	}
	if !errs.Is(err, errs.KindNotFound) {
		return nil, err
	}
	if r.Effective() != entity.DefaultProject {
		return nil, err
	}
	all, herr := s.Host.Interfaces(ctx)
	if herr != nil {
		return nil, herr
	}
	for _, i := range all {
		if i.Name == r.Name() {
			o := unmanaged(i, used)
			o.UsedBy = r.Visible(o.UsedBy)
			return rest.SyncETag(o, etag(o)), nil
		}
	}
	return nil, err
}

func (s *Service) put(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.change(ctx, r, func(api.Network) (api.NetworkPut, error) { return rest.Decode[api.NetworkPut](r) })
}

func (s *Service) patch(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.change(ctx, r, func(n api.Network) (api.NetworkPut, error) {
		b := n.NetworkPut
		err := rest.DecodeOnto(r, &b)
		return b, err
	})
}

func (s *Service) change(ctx context.Context, r *rest.Request, body func(api.Network) (api.NetworkPut, error)) (rest.Response, error) {
	v := s.viewOf(r)
	err := s.Update(ctx, r.Effective(), r.Name(), v, r.Caller().Requestor(), func(old Network) (Change, error) {
		shown := s.render(old, nil, v)
		if err := r.CheckETag(etag(shown)); err != nil {
			return Change{}, err
		}
		b, err := body(shown)
		return Change{Description: b.Description, Config: b.Config}, err
	})
	return rest.Empty(), err
}

func (s *Service) rename(ctx context.Context, r *rest.Request) (rest.Response, error) {
	b, err := rest.Decode[api.NetworkPost](r)
	if err != nil {
		return nil, err
	}
	if err := s.Rename(ctx, r.Effective(), r.Name(), b.Name, r.Caller().Requestor()); err != nil {
		return nil, err
	}
	return rest.Created(entity.New(entity.Network, r.Effective(), b.Name).URL()), nil
}

func (s *Service) delete(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return rest.Empty(), s.Delete(ctx, r.Effective(), r.Name(), r.Caller().Requestor())
}

func (s *Service) state(ctx context.Context, r *rest.Request) (rest.Response, error) {
	st, err := s.stateOf(ctx, r.Effective(), r.Name())
	if err != nil {
		return nil, err
	}
	return rest.Sync(renderState(st)), nil
}

func (s *Service) stateOf(ctx context.Context, project, name string) (netlink.State, error) {
	n, err := s.Load(ctx, project, name)
	if errs.Is(err, errs.KindNotFound) && project == entity.DefaultProject {
		return s.Host.State(ctx, name)
	}
	if err != nil {
		return netlink.State{}, err
	}
	d, err := s.driver(n.Type)
	if err != nil {
		return netlink.State{}, err
	}
	return d.State(ctx, s.spec(n))
}

func (s *Service) leases(ctx context.Context, r *rest.Request) (rest.Response, error) {
	n, err := s.Load(ctx, r.Effective(), r.Name())
	if err != nil {
		return nil, fmt.Errorf("Failed loading network: %w", err)
	}
	d, err := s.driver(n.Type)
	if err != nil {
		return nil, err
	}
	all, err := d.Leases(ctx, s.spec(n))
	if err != nil {
		return nil, err
	}
	out := []api.NetworkLease{}
	for _, l := range all {
		o := api.NetworkLease{Hostname: l.Hostname, Hwaddr: l.HWAddr, Address: l.Address.String(), Type: string(l.Type)}
		if l.Type != driver.Gateway {
			o.Location = s.Here.Location()
		}
		out = append(out, o)
	}
	out = append(out, s.leasesElsewhere(ctx, r, n)...)
	if out, err = s.leasesFor(ctx, r, n, out); err != nil {
		return nil, err
	}
	return rest.Sync(out), nil
}

// leasesFor leaves out the leases of instances that are not of the project that was asked
// about: a network is often shared by projects that are none of each other's business. The
// gateways are of the network's own. So are IPv6 leases that are nobody's: what a guest
// calls itself then need not be its MAC address.
func (s *Service) leasesFor(ctx context.Context, r *rest.Request, n Network, all []api.NetworkLease) ([]api.NetworkLease, error) {
	rows, err := db.Select[addressRow](ctx, s.DB, stmtAddresses)
	if err != nil {
		return nil, err
	}
	here := r.Project().Name
	ours, known := map[string]bool{}, map[string]bool{}
	for _, a := range rows {
		mac := strings.ToLower(a.Address)
		known[mac] = true
		if a.Project == here {
			ours[mac] = true
		}
	}
	out := []api.NetworkLease{}
	for _, l := range all {
		mac := strings.ToLower(l.Hwaddr)
		keep := ours[mac]
		if here == n.Project {
			stray := strings.Contains(l.Address, ":") && !known[mac] && r.Caller().Admin
			keep = keep || stray || l.Type == string(driver.Gateway)
		}
		if keep {
			out = append(out, l)
		}
	}
	return out, nil
}

// render copies, so that nobody changes what somebody else reads.
func (s *Service) render(n Network, used users, v view) api.Network {
	o := api.Network{NetworkPut: api.NetworkPut{Config: maps.Clone(n.Config), Description: n.Description},
		Name: n.Name, Type: n.Type, Managed: true, Status: s.Status(n), Locations: []string{}, UsedBy: used.of(n.Project, n.Name)}
	for _, m := range n.members {
		o.Locations = append(o.Locations, m.Name)
	}
	switch d, err := s.driver(n.Type); {
	case v == viewMember:
		o.Status = s.statusHere(n)
	case v == viewShared && err == nil:
		o.Config, _ = split(d.Keys(n.Config), n.Config)
		if n.State == created {
			o.Status = api.NetworkStatusCreated
		}
	}
	return o
}

func unmanaged(i netlink.Interface, used users) api.Network {
	o := api.Network{NetworkPut: api.NetworkPut{Config: map[string]string{}}, Name: i.Name, Type: i.Type, UsedBy: used.of(entity.DefaultProject, i.Name)}
	if i.Type == "loopback" {
		o.UsedBy = []string{} // as LXD has it: nothing can use it, where for others it is null
	}
	return o
}

// etag is what a change of the network is told by.
func etag(n api.Network) any { return []any{n.Name, n.Managed, n.Type, n.Description, n.Config} }

func renderState(st netlink.State) api.NetworkState {
	o := api.NetworkState{Addresses: []api.NetworkStateAddress{}, Hwaddr: st.HWAddr, Mtu: st.MTU, State: "down", Type: st.Type,
		Counters: api.NetworkStateCounters(st.Counters)}
	if st.Up {
		o.State = "up"
	}
	for _, a := range st.Addresses {
		o.Addresses = append(o.Addresses, api.NetworkStateAddress(a))
	}
	if st.Bridge != nil {
		b := api.NetworkStateBridge(*st.Bridge)
		o.Bridge = &b
	}
	if st.VLAN != nil {
		v := api.NetworkStateVLAN(*st.VLAN)
		o.VLAN = &v
	}
	return o
}
