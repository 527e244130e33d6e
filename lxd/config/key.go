package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"sett/shared/errs"
)

// Info is what a declaration says of a key, whatever its type.
type Info struct {
	Name string // "limits.cpu"; a trailing "*" declares a whole family, "user.*"
	// Type is the word shown in references: string, bool, integer, size, duration...
	Type    string
	Default string
	// Live: takes effect at once on what is running. Otherwise the next start.
	Live bool
	// Fixed: may be set when the object is made, and never changed.
	Fixed bool
	// Secret values are hidden in answers and logs.
	Secret bool
	// Volatile keys are written by the daemon; users may set them, clients hide them.
	Volatile bool
	// Local keys belong to one member of a cluster.
	Local bool
	Group string
	Doc   string // one sentence
	Long  string
	// Refused, when set, is why a key that LXD knows cannot be used here yet.
	Refused string

	check func(string) error
	seal  func(string) (string, error)
}

// Option changes a declaration.
type Option func(*Info)

// Doc is the sentence that explains a key.
func Doc(s string) Option { return func(i *Info) { i.Doc = s } }

// Long explains a key at length.
func Long(s string) Option { return func(i *Info) { i.Long = s } }

// Group puts a key under a heading of the reference.
func Group(s string) Option { return func(i *Info) { i.Group = s } }

// Live marks a key that takes effect at once.
func Live() Option { return func(i *Info) { i.Live = true } }

// Fixed marks a key that cannot change after creation.
func Fixed() Option { return func(i *Info) { i.Fixed = true } }

// Secret marks a key whose value is never shown.
func Secret() Option { return func(i *Info) { i.Secret = true } }

// Sealed marks a secret that is stored in a form from which it cannot be read back.
func Sealed(f func(string) (string, error)) Option {
	return func(i *Info) { i.Secret, i.seal = true, f }
}

// Volatile marks a key that the daemon itself writes.
func Volatile() Option { return func(i *Info) { i.Volatile = true } }

// Local marks a key that each cluster member has of its own.
func Local() Option { return func(i *Info) { i.Local = true } }

// Check adds a test that a non-empty value must pass.
func Check(f func(string) error) Option {
	return func(i *Info) {
		prev := i.check
		i.check = func(v string) error {
			if prev != nil {
				if err := prev(v); err != nil {
					return err
				}
			}
			return f(v)
		}
	}
}

// Key is a declared key with values of type T.
type Key[T any] struct {
	info  Info
	def   T
	parse func(string) (T, error)
}

// Declared is a key without its type, as tables hold it.
type Declared interface{ Info() Info }

// Info returns the declaration.
func (k Key[T]) Info() Info { return k.info }

// Name returns the key's name.
func (k Key[T]) Name() string { return k.info.Name }

// Get reads the key from a map that has been validated. Absent, empty and (which
// validation excludes) unreadable values give the default.
func (k Key[T]) Get(m map[string]string) T {
	v := m[k.info.Name]
	if v == "" {
		return k.def
	}
	t, err := k.parse(v)
	if err != nil {
		return k.def
	}
	return t
}

// Parse reads one value.
func (k Key[T]) Parse(v string) (T, error) {
	if v == "" {
		return k.def, nil
	}
	return k.parse(v)
}

// New declares a key of any type. def is what an empty value stands for, and
// shown is how the reference prints it.
func New[T any](name, typ string, def T, shown string, parse func(string) (T, error), opts ...Option) Key[T] {
	k := Key[T]{info: Info{Name: name, Type: typ, Default: shown}, def: def, parse: parse}
	k.info.check = func(v string) error { _, err := parse(v); return err }
	for _, o := range opts {
		o(&k.info)
	}
	return k
}

// String declares a key of free text.
func String(name, def string, opts ...Option) Key[string] {
	return New(name, "string", def, def, func(v string) (string, error) { return v, nil }, opts...)
}

// Bool declares a key that is true or false.
func Bool(name string, def bool, opts ...Option) Key[bool] {
	return New(name, "bool", def, strconv.FormatBool(def), ParseBool, opts...)
}

// Int declares a key of whole numbers.
func Int(name string, def int64, opts ...Option) Key[int64] {
	return New(name, "integer", def, strconv.FormatInt(def, 10), func(v string) (int64, error) {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, errs.Invalid("%q is not a whole number", v)
		}
		return n, nil
	}, opts...)
}

// Seconds declares a key that counts seconds.
func Seconds(name string, def time.Duration, opts ...Option) Key[time.Duration] {
	return New(name, "integer", def, strconv.FormatInt(int64(def/time.Second), 10), func(v string) (time.Duration, error) {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return 0, errs.Invalid("%q is not a number of seconds", v)
		}
		return time.Duration(n) * time.Second, nil
	}, opts...)
}

// Enum declares a key that takes one of some words.
func Enum(name, def string, words []string, opts ...Option) Key[string] {
	return New(name, "string", def, def, func(v string) (string, error) {
		for _, w := range words {
			if v == w {
				return v, nil
			}
		}
		return "", errs.Invalid("%q is not one of %s", v, strings.Join(words, ", "))
	}, opts...)
}

// Any declares a family of keys, "user.*", or one key without a type of its own.
func Any(name string, opts ...Option) Key[string] { return String(name, "", opts...) }

// Unbuilt declares a key of LXD's that this build refuses, by name and with a reason.
func Unbuilt(name string, opts ...Option) Key[string] {
	k := String(name, "", opts...)
	k.info.Refused = "is not implemented"
	return k
}

// ParseBool reads the spellings of truth that LXD takes.
func ParseBool(v string) (bool, error) {
	switch strings.ToLower(v) {
	case "true", "1", "yes", "on":
		return true, nil
	case "false", "0", "no", "off", "":
		return false, nil
	}
	return false, errs.Invalid("%q is neither true nor false", v)
}

func (i Info) validate(name, v string) error {
	// No value is how clients unset a key, and nobody needs a key built for that.
	if i.Refused != "" && v != "" {
		return errs.NotImplemented("Configuration key %q %s", name, i.Refused)
	}
	if v == "" || i.check == nil {
		return nil
	}
	if err := i.check(v); err != nil {
		k := errs.KindOf(err)
		if k == errs.KindInternal {
			k = errs.KindInvalid
		}
		return errs.Wrap(k, fmt.Errorf("Invalid value for %q: %w", name, err))
	}
	return nil
}

func (i Info) String() string { return fmt.Sprintf("%s (%s)", i.Name, i.Type) }
