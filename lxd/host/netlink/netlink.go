package netlink

import (
	"context"
	"fmt"

	"sett/shared/errs"
)

// MaxName is the longest name of an interface.
const MaxName = 15

func fmtErr(what, name string, err error) error {
	return fmt.Errorf("%s network interface %s: %w", what, name, err)
}

// CheckName refuses what the kernel takes for no interface name, and what would
// not survive in file names and firewall rules.
func CheckName(name string) error {
	if len(name) < 2 {
		return errs.Invalid("Network interface is too short (minimum 2 characters)")
	}
	if len(name) > MaxName {
		return errs.Invalid("Network interface is too long (maximum 15 characters)")
	}
	for _, c := range name {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' {
			continue
		}
		return errs.Invalid("Network interface contains invalid characters")
	}
	if name[0] == '-' {
		return errs.Invalid("Network interface name %q must not begin with a dash", name)
	}
	// The kernel's settings of all interfaces, and of new ones, stand beside those of
	// single interfaces.
	if name == ".." || name == "all" || name == "default" {
		return errs.Invalid("Network interface name %q is reserved", name)
	}
	return nil
}

// Host is the namespace as a value, for those who take an interface of it.
type Host struct{}

// Interfaces is the function of that name.
func (Host) Interfaces(ctx context.Context) ([]Interface, error) { return Interfaces(ctx) }

// State is Get.
func (Host) State(ctx context.Context, name string) (State, error) { return Get(ctx, name) }
