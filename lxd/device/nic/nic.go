package nic

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sett/lxd/config"
	"sett/lxd/container"
	"sett/lxd/device"
	"sett/lxd/host/netlink"
	"sett/lxd/host/sysctl"
	"sett/shared/errs"
	"sett/shared/undo"
	"sett/shared/validate"
)

// Kind is the kind "nic".
type Kind struct{}

// New makes the kind.
func New() Kind { return Kind{} }

// Name is "nic".
func (Kind) Name() string { return "nic" }

// Keys depend on what the nic plugs into.
func (Kind) Keys(ctx context.Context, svc device.Services, project string, c device.Config) (config.Table, error) {
	r, err := resolve(ctx, svc, project, c)
	if err != nil {
		return config.Table{}, err
	}
	if r.typ == "p2p" {
		return common(), nil
	}
	return bridged(), nil
}

// Check looks at which keys go together.
func (Kind) Check(ctx context.Context, svc device.Services, project string, c device.Config) error {
	r, err := resolve(ctx, svc, project, c)
	if err != nil {
		return err
	}
	return check(r, c)
}

// HotPlug is always possible.
func (Kind) HotPlug(device.Config) bool { return true }

// New makes the device.
func (Kind) New(env device.Env) (device.Device, error) {
	vol := maps.Clone(env.Volatile)
	if vol == nil {
		vol = map[string]string{}
	}
	return &Device{env: env, volatile: vol}, nil
}

// Device is one nic.
type Device struct {
	env      device.Env
	volatile map[string]string
}

// Names of the volatile keys.
const (
	volHostName = "host_name"
	volHWAddr   = "hwaddr"
	volName     = "name"
)

func (d *Device) save(ctx context.Context, changes map[string]string) error {
	for k, v := range changes {
		if d.volatile[k] == v {
			delete(changes, k)
			continue
		}
		if v == "" {
			delete(d.volatile, k)
		} else {
			d.volatile[k] = v
		}
	}
	if len(changes) == 0 || d.env.SaveVolatile == nil {
		return nil
	}
	return d.env.SaveVolatile(ctx, changes)
}

// Add settles the MAC address and the name inside, which stay, and takes the
// addresses on the network.
func (d *Device) Add(ctx context.Context) error {
	r, err := resolve(ctx, d.env.Services, d.env.Instance.Project, d.env.Config)
	if err != nil {
		return err
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	_, err = d.lease(ctx, r)
	return err
}

// settle picks what the configuration leaves open.
func (d *Device) settle(ctx context.Context) error {
	changes := map[string]string{}
	if d.env.Config["hwaddr"] == "" {
		if d.volatile[volHWAddr] == "" {
			changes[volHWAddr] = randomHWAddr()
		} else if err := validate.HWAddr(d.volatile[volHWAddr]); err != nil { // users may write it
			return errs.Invalid("Invalid value for \"volatile.%s.%s\": %w", d.env.Name, volHWAddr, err)
		}
	}
	// A name that another nic was given by its configuration since is free no more.
	if v := d.volatile[volName]; d.env.Config["name"] == "" && (v == "" || slices.Contains(d.env.GuestNames, v)) {
		n := 0
		for slices.Contains(d.env.GuestNames, fmt.Sprintf("eth%d", n)) {
			n++
		}
		changes[volName] = fmt.Sprintf("eth%d", n)
	}
	return d.save(ctx, changes)
}

func (d *Device) hwaddr() string {
	if v := d.env.Config["hwaddr"]; v != "" {
		return v
	}
	return d.volatile[volHWAddr]
}

func (d *Device) guestName() string {
	if v := d.env.Config["name"]; v != "" {
		return v
	}
	return d.volatile[volName]
}

// Start makes the veth pair and readies the host's end.
func (d *Device) Start(ctx context.Context, u *undo.Stack) (device.Plug, error) {
	r, err := resolve(ctx, d.env.Services, d.env.Instance.Project, d.env.Config)
	if err != nil {
		return device.Plug{}, err
	}
	if r.parent != "" && !netlink.IsBridge(r.parent) {
		if r.network != nil {
			return device.Plug{}, errs.Unavailable("Network %q is not available on this server", r.parent)
		}
		return device.Plug{}, errs.Invalid("Parent device %q doesn't exist or is not a bridge", r.parent)
	}
	if err := d.settle(ctx); err != nil {
		return device.Plug{}, err
	}
	mtu, err := d.mtu(r)
	if err != nil {
		return device.Plug{}, err
	}
	// Whatever an earlier run left, a killed daemon's included, goes first.
	if err := d.clean(ctx, r); err != nil {
		return device.Plug{}, err
	}
	host, peer, err := d.pair(ctx, u, mtu)
	if err != nil {
		return device.Plug{}, err
	}
	l, err := d.lease(ctx, r)
	if err != nil {
		return device.Plug{}, err
	}
	if err := d.ready(ctx, u, r, host, l); err != nil {
		return device.Plug{}, err
	}
	return device.Plug{NICs: []container.NIC{{HostName: peer, GuestName: d.guestName(), HWAddr: d.hwaddr(), MTU: mtu}}}, nil
}

// noteFile keeps the name of the host's end beside the volatile key, which may be stored
// only when the whole start has succeeded, and the configuration that the host was brought
// to, which may never be stored.
func (d *Device) noteFile() string {
	if d.env.Instance.DevicesDir == "" {
		return ""
	}
	return filepath.Join(d.env.Instance.DevicesDir, notePrefix+d.env.Name)
}

const notePrefix = "nic."

func (d *Device) forgetNote() error {
	f := d.noteFile()
	if f == "" {
		return nil
	}
	if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d *Device) note(host string, c device.Config) error {
	f := d.noteFile()
	if f == "" {
		return nil
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f), 0o711); err != nil {
		return err
	}
	// What a killed daemon has left is the note before or this one, and never half of it.
	fresh := filepath.Join(filepath.Dir(f), "new."+filepath.Base(f))
	if err := os.WriteFile(fresh, append([]byte(host+"\n"), b...), 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, f)
}

// noted is what the note says. One of an earlier version knows no configuration.
func (d *Device) noted() (host string, c device.Config, err error) {
	f := d.noteFile()
	if f == "" {
		return "", nil, fs.ErrNotExist
	}
	b, err := os.ReadFile(f)
	if err != nil {
		return "", nil, err
	}
	host, text, _ := strings.Cut(string(b), "\n")
	if err := netlink.CheckName(host); err != nil {
		return "", nil, nil // the disk has lost it
	}
	if text != "" {
		err = json.Unmarshal([]byte(text), &c)
	}
	return host, c, err
}

// hostNames are the host's ends that may be there: none, or the one that was noted. The
// volatile key is for users to read, and who may write it must not lead the daemon to the
// interfaces of others.
func (d *Device) hostNames() []string {
	host, _, _ := d.noted()
	if d.noteFile() == "" { // there is nothing better
		host = d.volatile[volHostName]
	}
	if host == "" {
		return nil
	}
	return []string{host}
}

// pair makes the veth pair. The host's name is noted before the pair exists, so
// that no crash leaves one that nobody knows.
func (d *Device) pair(ctx context.Context, u *undo.Stack, mtu int) (host, peer string, err error) {
	mac, err := net.ParseMAC(d.hwaddr())
	if err != nil {
		return "", "", errs.Invalid("%q is not a MAC address", d.hwaddr())
	}
	fixed := keyHostName.Get(d.env.Config)
	for range 5 {
		host, peer = fixed, randomVeth()
		if fixed == "" {
			host = randomVeth()
		}
		if netlink.Exists(host) && fixed != "" {
			return "", "", errs.Conflict("Network interface %q exists already; set another \"host_name\"", host)
		}
		if err = d.note(host, d.env.Config); err != nil {
			return "", "", err
		}
		if err = d.save(ctx, map[string]string{volHostName: host}); err != nil {
			return "", "", err
		}
		err = netlink.CreateVeth(netlink.Veth{Host: host, Peer: peer, PeerHWAddr: mac, MTU: mtu, TxQueueLen: int(keyQueue.Get(d.env.Config))})
		if errs.Is(err, errs.KindConflict) && fixed != "" {
			// Somebody was faster. What bears the name is theirs, and must not be taken for ours.
			return "", "", errors.Join(err, d.forgetNote(), d.save(ctx, map[string]string{volHostName: ""}))
		}
		if !errs.Is(err, errs.KindConflict) {
			break
		}
	}
	if err != nil {
		return "", "", err
	}
	u.Push(func() error { return errors.Join(netlink.Delete(host), d.forgetNote()) })
	return host, peer, nil
}

// ready does all to the host's end that has to be done before packets pass, and
// attaches it last.
func (d *Device) ready(ctx context.Context, u *undo.Stack, r resolved, host string, l device.Lease) error {
	c := d.env.Config
	conf4, conf6 := filepath.Join("net/ipv4/conf", host), filepath.Join("net/ipv6/conf", host)
	// No guest announces to the host which way to go, or which addresses to have.
	settings := [][2]string{{conf6 + "/accept_ra", "0"}}
	if r.typ == "bridged" {
		// The host has no business on this link but to bridge it: without these it would
		// answer and route on the port itself.
		settings = [][2]string{{conf6 + "/disable_ipv6", "1"}, {conf4 + "/forwarding", "0"}}
	}
	for _, kv := range settings {
		if err := sysctl.SetIfPresent(kv[0], kv[1]); err != nil {
			return err
		}
	}
	if send, receive := limits(c); send > 0 || receive > 0 {
		u.Push(func() error { return netlink.Unshape(host) })
		if err := netlink.Shape(host, send, receive); err != nil {
			return err
		}
	}
	if keyNetPriority.Get(c) > 0 {
		u.Push(func() error { return deprioritize(context.WithoutCancel(ctx), []string{host}) })
		if err := d.prioritize(ctx, r, host, c); err != nil {
			return err
		}
	}
	if filtered(c) {
		u.Push(func() error { return d.unfilter(context.WithoutCancel(ctx), []string{host}) })
		if err := d.filter(ctx, host, l); err != nil {
			return err
		}
	}
	if r.parent != "" {
		if err := netlink.Attach(host, r.parent); err != nil {
			return err
		}
		if keyIsolation.Get(c) {
			if err := netlink.Isolate(host, true); err != nil {
				return err
			}
		}
	}
	if err := netlink.SetUp(host); err != nil {
		return err
	}
	on := cmp.Or(r.parent, host)
	if err := netlink.AddRoutes(on, routes(c)); err != nil {
		return err
	}
	// Pushed only now: what stood in the way may be the same route of another instance.
	u.Push(func() error { return netlink.RemoveRoutes(on, routes(c)) })
	return nil
}

// routes are the subnets behind the instance.
func routes(c device.Config) []netip.Prefix {
	return prefixes(keyIPv4Routes.Get(c), keyIPv6Routes.Get(c))
}

// limits are the rates out of the host's end, which is into the instance, and in.
func limits(c device.Config) (send, receive int64) {
	m := keyMax.Get(c)
	send, receive = keyIngress.Get(c), keyEgress.Get(c)
	if m > 0 {
		send, receive = m, m
	}
	return send, receive
}

func (d *Device) mtu(r resolved) (int, error) {
	if v := keyMTU.Get(d.env.Config); v != 0 {
		return int(v), nil
	}
	if r.parent == "" {
		return 0, nil
	}
	return netlink.MTU(r.parent)
}

// lease makes the managed network know the device.
func (d *Device) lease(ctx context.Context, r resolved) (device.Lease, error) {
	c := d.env.Config
	l := device.Lease{Project: d.env.Instance.Project, Instance: d.env.Instance.Name, Device: d.env.Name, HWAddr: d.hwaddr()}
	l.IPv4, l.IPv6 = keyIPv4.Get(c), keyIPv6.Get(c)
	if l.IPv4 == "none" {
		l.IPv4 = ""
	}
	if l.IPv6 == "none" {
		l.IPv6 = ""
	}
	if r.network == nil {
		return l, nil
	}
	l.PickIPv4 = keyIPv4Filter.Get(c) && keyIPv4.Get(c) == ""
	l.PickIPv6 = keyIPv6Filter.Get(c) && keyIPv6.Get(c) == ""
	return d.env.Services.Networks.SetLease(ctx, r.network.Name, l)
}

// Stop has nothing taken out of the instance: the pair goes when PostStop removes the
// host's end. By the name inside it could not be found safely, because the guest may
// have renamed it, or have given the name to something of its own making.
func (d *Device) Stop(context.Context) (device.Unplug, error) { return device.Unplug{}, nil }

// PostStop removes everything from the host. The lease stays: the instance comes back.
func (d *Device) PostStop(ctx context.Context) error {
	r, err := resolve(ctx, d.env.Services, d.env.Instance.Project, d.env.Config)
	if err != nil {
		// The network may be gone, and what hangs on the host's end must go all the same.
		r = resolved{}
	}
	if err := d.clean(ctx, r); err != nil {
		return err
	}
	return d.save(ctx, map[string]string{volHostName: ""})
}

func (d *Device) clean(ctx context.Context, r resolved) error {
	hosts := d.hostNames()
	if len(hosts) == 0 {
		return d.forgetNote()
	}
	if err := d.cleanAs(ctx, r, d.env.Config, hosts); err != nil {
		return err
	}
	// It may have been changed by a daemon that did not live to store that.
	if _, c, err := d.noted(); err == nil && c != nil && !maps.Equal(c, d.env.Config) {
		if r, err = resolve(ctx, d.env.Services, d.env.Instance.Project, c); err != nil {
			r = resolved{}
		}
		if err := d.cleanAs(ctx, r, c, hosts); err != nil {
			return err
		}
	}
	return d.forgetNote()
}

// cleanAs removes what a configuration leads to.
func (d *Device) cleanAs(ctx context.Context, r resolved, c device.Config, hosts []string) error {
	if r.parent != "" {
		if err := netlink.RemoveRoutes(r.parent, routes(c)); err != nil {
			return err
		}
	}
	for _, host := range hosts {
		if err := netlink.DeleteVeth(host); err != nil {
			return err
		}
		if err := netlink.Unshape(host); err != nil {
			return err
		}
	}
	if filtered(c) {
		if err := d.unfilter(ctx, hosts); err != nil {
			return err
		}
	}
	if keyNetPriority.Get(c) > 0 {
		return deprioritize(ctx, hosts)
	}
	return nil
}

// Sweep removes the pairs of devices that were never stored, by their notes.
func (Kind) Sweep(ctx context.Context, i device.Instance, have func(string) bool) error {
	if i.DevicesDir == "" {
		return nil
	}
	es, err := os.ReadDir(i.DevicesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range es {
		name, ok := strings.CutPrefix(e.Name(), notePrefix)
		if !ok || have(name) {
			continue
		}
		d := &Device{env: device.Env{Instance: i, Name: name}}
		// What it was like is not known: as if it had everything that leaves traces.
		hosts := d.hostNames()
		if err := errors.Join(d.unfilter(ctx, hosts), deprioritize(ctx, hosts)); err != nil {
			return err
		}
		if err := d.clean(ctx, resolved{}); err != nil {
			return err
		}
	}
	return nil
}

// Remove forgets the lease, and what a start that was killed has left.
func (d *Device) Remove(ctx context.Context) error {
	r, err := resolve(ctx, d.env.Services, d.env.Instance.Project, d.env.Config)
	if cerr := d.clean(ctx, r); cerr != nil {
		return cerr
	}
	if errs.Is(err, errs.KindNotFound) || err == nil && r.network == nil {
		return nil
	}
	if err != nil {
		return err
	}
	return d.env.Services.Networks.RemoveLease(ctx, r.network.Name, device.Lease{
		Project: d.env.Instance.Project, Instance: d.env.Instance.Name, Device: d.env.Name, HWAddr: d.hwaddr()})
}

// Update brings a running nic to its new configuration. When it fails all is as before.
func (d *Device) Update(ctx context.Context, old device.Config, changed []string) error {
	host := d.host()
	if host == "" {
		return d.apply(ctx, old, changed)
	}
	if err := d.note(host, d.env.Config); err != nil {
		return err
	}
	if err := d.apply(ctx, old, changed); err != nil {
		return errors.Join(err, d.note(host, old))
	}
	return nil
}

// Settle takes back what a daemon changed that was killed before it could store that.
func (d *Device) Settle(ctx context.Context) (bool, error) {
	if d.noteFile() == "" {
		return true, nil
	}
	_, was, err := d.noted()
	host, now := d.host(), d.env.Config
	if errors.Is(err, fs.ErrNotExist) || err == nil && host == "" {
		return false, nil // it was taken out, to be plugged in anew
	}
	if err != nil {
		return true, err
	}
	stored := host == d.volatile[volHostName]
	if was == nil || maps.Equal(was, now) {
		return stored, nil
	}
	table, err := Kind{}.Keys(ctx, d.env.Services, d.env.Instance.Project, now)
	if err != nil {
		return true, err
	}
	changed := config.Changed(was, now)
	if !stored || slices.ContainsFunc(changed, func(k string) bool { info, ok := table.Lookup(k); return !ok || !info.Live }) {
		left := &Device{env: d.env, volatile: d.volatile}
		left.env.Config = was
		return false, left.Remove(ctx)
	}
	if slices.ContainsFunc(changed, func(k string) bool { return strings.HasSuffix(k, ".routes") }) {
		// How far it came is not known: what is to be there may be there.
		r, err := resolve(ctx, d.env.Services, d.env.Instance.Project, now)
		if err != nil {
			return true, err
		}
		if err := netlink.RemoveRoutes(cmp.Or(r.parent, host), routes(now)); err != nil {
			return true, err
		}
	}
	if err := d.apply(ctx, was, changed); err != nil {
		return true, err
	}
	return true, d.note(host, now)
}

// host is the host's end while it is there.
func (d *Device) host() string {
	for _, h := range d.hostNames() {
		if netlink.Exists(h) {
			return h
		}
	}
	return ""
}

// apply does what Update says.
func (d *Device) apply(ctx context.Context, old device.Config, changed []string) (err error) {
	var u undo.Stack
	defer func() {
		if err != nil {
			err = errors.Join(err, u.Revert())
		}
	}()
	r, err := resolve(ctx, d.env.Services, d.env.Instance.Project, d.env.Config)
	if err != nil {
		return err
	}
	touched := func(begins ...string) bool {
		return slices.ContainsFunc(changed, func(k string) bool {
			return slices.ContainsFunc(begins, func(b string) bool { return strings.HasPrefix(k, b) })
		})
	}
	now, host := d.env.Config, d.host()
	claims := touched("ipv4.", "ipv6.", "security.")
	var l device.Lease
	if claims {
		before := &Device{env: d.env, volatile: d.volatile}
		before.env.Config = old
		u.Push(func() error { _, err := before.lease(context.WithoutCancel(ctx), r); return err })
		if l, err = d.lease(ctx, r); err != nil {
			return err
		}
	}
	if host == "" {
		return nil
	}
	if touched(keyIngress.Name(), keyEgress.Name(), keyMax.Name()) {
		u.Push(func() error { send, receive := limits(old); return netlink.Shape(host, send, receive) })
		send, receive := limits(now)
		if err := netlink.Shape(host, send, receive); err != nil {
			return err
		}
	}
	if touched(keyNetPriority.Name()) {
		u.Push(func() error { return d.prioritize(context.WithoutCancel(ctx), r, host, old) })
		if err := d.prioritize(ctx, r, host, now); err != nil {
			return err
		}
	}
	if touched("ipv4.routes", "ipv6.routes") {
		on := cmp.Or(r.parent, host)
		u.Push(func() error { return netlink.AddRoutes(on, routes(old)) })
		if err := netlink.RemoveRoutes(on, routes(old)); err != nil {
			return err
		}
		if err := netlink.AddRoutes(on, routes(now)); err != nil {
			return err
		}
		u.Push(func() error { return netlink.RemoveRoutes(on, routes(now)) })
	}
	switch {
	case claims && filtered(now):
		return d.filter(ctx, host, l)
	case claims && filtered(old):
		return d.unfilter(ctx, []string{host})
	}
	return nil
}

// randomHWAddr picks an address under the prefix that LXD's instances have.
func randomHWAddr() string {
	var b [3]byte
	rand.Read(b[:])
	return net.HardwareAddr{0x00, 0x16, 0x3e, b[0], b[1], b[2]}.String()
}

func randomVeth() string {
	var b [4]byte
	rand.Read(b[:])
	return "veth" + hex.EncodeToString(b[:])
}
