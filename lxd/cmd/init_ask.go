package cmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sett/client"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/i18n"
	"sett/shared/validate"
)

// dialogue asks for a set-up. The order of the questions and their defaults are
// LXD's, because scripts answer them by their number:
//
//	cluster · pool (name, backend, then what the backend needs) · remote pool, in a
//	cluster only · MAAS · bridge (name, IPv4, NAT, IPv6, NAT) or interface of the host ·
//	network · images · print
type dialogue struct {
	asker
	c   client.InstanceServer
	p   *api.InitPreseed
	dir string // LXD_DIR

	taken func(name string) bool
	ctx   context.Context
}

func (e *env) askPreseed(ctx context.Context, c client.InstanceServer) (*api.InitPreseed, error) {
	d := &dialogue{asker: asker{bufio.NewReader(e.in), e.in, e.out, e.err}, c: c, p: newPreseed(), dir: e.dir, taken: e.taken, ctx: ctx}
	if err := d.cluster(); err != nil {
		return nil, err
	}
	rest := []func() error{d.storage, d.maas, d.networking, d.server, d.images}
	switch c := d.p.Cluster; {
	case c != nil && c.ClusterToken != "": // which says all the rest
		rest = nil
	case c != nil: // a bridge of one member is of no use to the others
		rest = []func() error{d.storage, d.remoteStorage, d.maas, d.hostInterface, d.images}
	}
	for _, ask := range rest {
		if err := ask(); err != nil {
			return nil, err
		}
	}
	show, err := d.yes(i18n.G("Print the answers as YAML for \"lxd init --preseed\"?"), false)
	if err != nil {
		return nil, err
	}
	if show {
		if err := writeYAML(e.out, d.p); err != nil {
			return nil, err
		}
		fmt.Fprintln(e.out)
	}
	return d.p, nil
}

// refuse asks about something that is not built: no goes on, yes ends.
func (d *dialogue) refuse(question, what string) error {
	yes, err := d.yes(question, false)
	if err == nil && yes {
		return errs.NotImplemented(i18n.G("%s is not implemented in this version; nothing was changed"), what)
	}
	return err
}

func (d *dialogue) remoteStorage() error {
	return d.refuse(i18n.G("Set up a new storage pool that all members share?"), i18n.G("Storage that members share"))
}

func (d *dialogue) maas() error {
	return d.refuse(i18n.G("Should it connect to a MAAS server?"), i18n.G("Support for MAAS"))
}

// server asks where the API is on the network: address, port, password. A server that
// joins a cluster has answered that already.
func (d *dialogue) server() error {
	yes, err := d.yes(i18n.G("Should other machines reach this server over the network?"), false)
	if err != nil || !yes {
		return err
	}
	address, err := d.text(i18n.G("Address to listen on (without port)"), "all", func(s string) error {
		_, err := validate.ListenAddress(networkAddress(s, validate.DefaultPort))
		return err
	})
	if err != nil {
		return err
	}
	port, err := d.text(i18n.G("Port to listen on"), validate.DefaultPort, func(s string) error {
		if n, err := strconv.ParseUint(s, 10, 16); err != nil || n == 0 {
			return fmt.Errorf(i18n.G("%q is not a port"), s)
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.p.Node.Config["core.https_address"] = networkAddress(address, port)
	return d.password()
}

// password asks for the trust password.
func (d *dialogue) password() error {
	for {
		password, err := d.secret(i18n.G("Trust password for new clients (empty: none, they bring tokens): "))
		if err != nil || password == "" {
			return err
		}
		again, err := d.secret(i18n.G("Again: "))
		if err != nil {
			return err
		}
		if again == password {
			d.p.Node.Config["core.trust_password"] = password
			return nil
		}
		fmt.Fprintf(d.errs, "%s\n\n", i18n.G("The two are not the same."))
	}
}

// networkAddress joins address and port; "all" is every address of the host.
func networkAddress(address, port string) string {
	if address == "all" || address == "any" {
		address = "::"
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), port)
}

func (d *dialogue) images() error {
	update, err := d.yes(i18n.G("Should old images in the cache be brought up to date by themselves?"), true)
	if err == nil && !update {
		d.p.Node.Config["images.auto_update_interval"] = "0"
	}
	return err
}

func (d *dialogue) storage() error {
	want, err := d.yes(i18n.G("Set up a new storage pool?"), true)
	if err != nil || !want {
		return err
	}
	have, err := d.c.GetStoragePoolNames()
	if err != nil {
		return err
	}
	name, err := d.text(i18n.G("Name of the new storage pool"), "default", func(s string) error {
		if slices.Contains(have, s) {
			return fmt.Errorf(i18n.G("the storage pool %q is there already; choose another name"), s)
		}
		return plainName(s, 63)
	})
	if err != nil {
		return err
	}
	drivers, err := storageDrivers(d.c)
	if err != nil {
		return err
	}
	driver := drivers[0]
	if len(drivers) > 1 {
		def := drivers[0]
		if slices.Contains(drivers, "btrfs") {
			def = "btrfs"
		}
		if driver, err = d.choice(i18n.G("Storage backend"), drivers, def); err != nil {
			return err
		}
	}
	config := map[string]string{}
	if driver == "btrfs" {
		if err := d.btrfs(name, config); err != nil {
			return err
		}
	}
	addPool(d.p, name, driver, config)
	return nil
}

func (d *dialogue) btrfs(pool string, config map[string]string) error {
	if onBtrfs(d.dir) {
		sub, err := d.yes(fmt.Sprintf(i18n.G("Use a new subvolume of the btrfs file system below %s?"), d.dir), true)
		if err != nil {
			return err
		}
		if sub {
			config["source"] = filepath.Join(d.dir, "storage-pools", pool)
			return nil
		}
	}
	create, err := d.yes(i18n.G("Make a new btrfs file system?"), true)
	if err != nil {
		return err
	}
	if !create {
		config["source"], err = d.text(i18n.G("Path of the btrfs file system or subvolume to use"), "", nil)
		return err
	}
	device, err := d.yes(i18n.G("Put it on an empty block device, such as a disk or a partition?"), false)
	if err != nil {
		return err
	}
	if device {
		config["source"], err = d.text(i18n.G("Path of the block device"), "", blockDevice)
		return err
	}
	size, err := d.text(i18n.G("Size in GiB of the file that holds it (1GiB minimum)"), strconv.FormatInt(loopSize(d.dir), 10)+"GiB", func(s string) error {
		_, err := gib(s)
		return err
	})
	if err != nil {
		return err
	}
	n, err := gib(size)
	config["size"] = strconv.FormatInt(n, 10) + "GiB"
	return err
}

// plainName catches the slips; the server knows all the rules.
func plainName(s string, longest int) error {
	if len(s) > longest || strings.ContainsAny(s, "/ \t:") || strings.HasPrefix(s, "-") || strings.HasPrefix(s, ".") {
		return fmt.Errorf(i18n.G("%q cannot be a name: letters, digits, dashes and dots, %d at most"), s, longest)
	}
	return nil
}

// gib reads "30" and "30GiB".
func gib(s string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSuffix(s, "GiB"), 10, 64)
	if err != nil || n < 1 || n > 1<<20 {
		return 0, fmt.Errorf(i18n.G("%q is not a number of GiB of 1 or more"), s)
	}
	return n, nil
}

func blockDevice(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st.Mode()&os.ModeDevice == 0 || st.Mode()&os.ModeCharDevice != 0 {
		return fmt.Errorf(i18n.G("%s is not a block device"), path)
	}
	return nil
}

// onBtrfs reports whether a folder is on btrfs.
func onBtrfs(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.BTRFS_SUPER_MAGIC
}

// loopSize is a fifth of what is free, between 5 and 30 GiB.
func loopSize(dir string) int64 {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return 30
	}
	return min(30, max(5, int64(st.Bavail)*st.Bsize/5>>30))
}

func (d *dialogue) networking() error {
	create, err := d.yes(i18n.G("Make a new local bridge?"), true)
	if err != nil {
		return err
	}
	if !create {
		return d.hostInterface()
	}
	nets, err := d.c.GetNetworks()
	if err != nil {
		return err
	}
	name, err := d.text(i18n.G("Name of the new bridge"), defaultBridge, func(s string) error {
		if slices.ContainsFunc(nets, func(n api.Network) bool { return n.Name == s }) || d.taken(s) {
			return fmt.Errorf(i18n.G("the interface %q is there already; choose another name"), s)
		}
		return plainName(s, 15) // what the kernel has room for
	})
	if err != nil {
		return err
	}
	config := map[string]string{}
	for _, v := range []struct {
		name, key string
		is4       bool
	}{{"IPv4", "ipv4", true}, {"IPv6", "ipv6", false}} {
		if err := d.address(config, v.name, v.key, v.is4); err != nil {
			return err
		}
	}
	addBridge(d.p, name, "bridge", config)
	return nil
}

func (d *dialogue) address(config map[string]string, name, key string, is4 bool) error {
	a, err := d.text(fmt.Sprintf(i18n.G("%s address of the bridge (CIDR, \"auto\" or \"none\")"), name), "auto", func(s string) error {
		if s == "auto" || s == "none" {
			return nil
		}
		p, err := netip.ParsePrefix(s)
		if err != nil || p.Addr().Is4() != is4 {
			return fmt.Errorf(i18n.G("%q is not an %s address with its prefix length, such as %s"), s, name, map[bool]string{true: "10.1.2.1/24", false: "fd00:1::1/64"}[is4])
		}
		return nil
	})
	if err != nil {
		return err
	}
	config[key+".address"] = a
	if a == "auto" || a == "none" {
		return nil
	}
	nat, err := d.yes(fmt.Sprintf(i18n.G("Should guests reach other networks over %s by address translation (NAT)?"), name), true)
	config[key+".nat"] = strconv.FormatBool(nat)
	return err
}

func (d *dialogue) hostInterface() error {
	use, err := d.yes(i18n.G("Connect instances to a bridge or interface that the host has?"), false)
	if err != nil || !use {
		return err
	}
	name, err := d.text(i18n.G("Name of the bridge or interface"), "", func(s string) error {
		if !d.taken(s) {
			return errors.New(i18n.G("the host has no interface of that name"))
		}
		return nil
	})
	if err != nil {
		return err
	}
	kind := "macvlan"
	if _, err := os.Stat(filepath.Join("/sys/class/net", name, "bridge")); err == nil {
		kind = "bridged"
	}
	d.p.Node.Profiles[0].Devices["eth0"] = map[string]string{"type": "nic", "name": "eth0", "nictype": kind, "parent": name}
	return nil
}
