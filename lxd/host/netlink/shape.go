package netlink

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sett/shared/errs"
)

// ifbPrefix begins the names of the helper interfaces that Shape makes.
const ifbPrefix = "ifb"

// helper names the interface that packets received on another one wait in. No two have
// the same. Those that the daemon names, "veth" with eight digits, share the digits.
func helper(name string) string {
	if digits, ok := strings.CutPrefix(name, "veth"); ok && len(digits) == 8 {
		return ifbPrefix + digits
	}
	sum := sha256.Sum256([]byte(name))
	return ifbPrefix + hex.EncodeToString(sum[:6])
}

// Shape limits what leaves the host through an interface (send) and what comes
// in by it (receive), in bits per second; 0 is no limit. What was set before is
// replaced.
//
// The kernel can only queue packets that leave. Those that arrive are sent
// through a helper interface, from which they leave. The police action, which
// drops instead, is not everywhere and treats TCP badly.
func Shape(name string, send, receive int64) error {
	l, err := link(name)
	if err != nil {
		return err
	}
	if err := shape(l, send); err != nil {
		return fmtErr("limit", name, err)
	}
	if err := unshapeReceive(l); err != nil {
		return err
	}
	if receive == 0 {
		return nil
	}
	if err := shapeReceive(l, receive); err != nil {
		return errors.Join(fmtErr("limit", name, err), unshapeReceive(l))
	}
	return nil
}

// Unshape removes the helper interface; the rest of the limits goes with the
// interface itself, which may be gone already.
func Unshape(name string) error { return deleteKind(helper(name), "ifb") }

func deleteKind(name, kind string) error {
	l, err := link(name)
	if errs.Is(err, errs.KindNotFound) || err == nil && l.Type() != kind {
		return nil
	}
	if err != nil {
		return err
	}
	return Delete(name)
}

func shape(l nl.Link, bits int64) error {
	index := l.Attrs().Index
	attrs := nl.QdiscAttrs{LinkIndex: index, Handle: nl.MakeHandle(1, 0), Parent: nl.HANDLE_ROOT}
	q := nl.NewHtb(attrs)
	q.Defcls = 0x10
	if err := nl.QdiscDel(q); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	if bits == 0 {
		return nil
	}
	if err := nl.QdiscAdd(q); err != nil {
		return err
	}
	c := nl.NewHtbClass(nl.ClassAttrs{LinkIndex: index, Parent: nl.MakeHandle(1, 0), Handle: nl.MakeHandle(1, 0x10)}, nl.HtbClassAttrs{Rate: uint64(bits)})
	return nl.ClassAdd(c)
}

func ingress(l nl.Link) *nl.Ingress {
	return &nl.Ingress{QdiscAttrs: nl.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: nl.MakeHandle(0xffff, 0), Parent: nl.HANDLE_INGRESS}}
}

func unshapeReceive(l nl.Link) error {
	err := nl.QdiscDel(ingress(l))
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmtErr("remove limits from", l.Attrs().Name, err)
	}
	return Unshape(l.Attrs().Name)
}

func shapeReceive(l nl.Link, bits int64) error {
	a := nl.NewLinkAttrs()
	a.Name = helper(l.Attrs().Name)
	a.MTU = l.Attrs().MTU
	if err := nl.LinkAdd(&nl.Ifb{LinkAttrs: a}); err != nil {
		return err
	}
	h, err := link(a.Name)
	if err != nil {
		return err
	}
	if err := nl.LinkSetUp(h); err != nil {
		return err
	}
	if err := shape(h, bits); err != nil {
		return err
	}
	if err := nl.QdiscAdd(ingress(l)); err != nil {
		return err
	}
	return nl.FilterAdd(&nl.U32{
		FilterAttrs: nl.FilterAttrs{LinkIndex: l.Attrs().Index, Parent: nl.MakeHandle(0xffff, 0), Priority: 1, Protocol: unix.ETH_P_ALL},
		Sel:         &nl.TcU32Sel{Flags: nl.TC_U32_TERMINAL, Nkeys: 1, Keys: []nl.TcU32Key{{}}}, // matches everything
		Actions:     []nl.Action{nl.NewMirredAction(h.Attrs().Index)},
	})
}
