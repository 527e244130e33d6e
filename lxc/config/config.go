package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"gopkg.in/yaml.v2"

	"sett/shared/i18n"
)

// Config is the content of config.yml.
type Config struct {
	DefaultRemote string            `yaml:"default-remote"`
	Remotes       map[string]Remote `yaml:"remotes"`
	Aliases       map[string]string `yaml:"aliases"`

	// Dir is where the file and the certificates live.
	Dir string `yaml:"-"`
	// Socket is the socket behind "unix://"; empty means the usual one.
	Socket string `yaml:"-"`
	// Project overrides the project of all remotes.
	Project string `yaml:"-"`

	kept string // the default remote of the file, where this run has another one
}

// Remote is one server.
type Remote struct {
	Addr     string `yaml:"addr"`
	AuthType string `yaml:"auth_type,omitempty"`
	Domain   string `yaml:"domain,omitempty"`
	Project  string `yaml:"project,omitempty"`
	Protocol string `yaml:"protocol,omitempty"`
	Public   bool   `yaml:"public"`

	Static bool `yaml:"-"` // Cannot be changed
	Global bool `yaml:"-"` // Comes from the file of the whole machine
}

// defaults is what a client has that was never configured.
func defaults() *Config {
	return &Config{
		DefaultRemote: "local",
		Remotes: map[string]Remote{
			"images":       {Addr: "https://images.linuxcontainers.org", Protocol: "simplestreams", Public: true},
			"local":        {Addr: "unix://", Static: true},
			"ubuntu":       {Addr: "https://cloud-images.ubuntu.com/releases", Protocol: "simplestreams", Public: true, Static: true},
			"ubuntu-daily": {Addr: "https://cloud-images.ubuntu.com/daily", Protocol: "simplestreams", Public: true, Static: true},
		},
		Aliases: map[string]string{},
	}
}

// Load reads the file in dir and the one of the whole machine. A missing file
// means the defaults, and first is true then.
func Load(dir, globalDir string) (c *Config, first bool, err error) {
	c = defaults()
	c.Dir = dir
	own, err := read(filepath.Join(dir, "config.yml"))
	if errors.Is(err, fs.ErrNotExist) {
		first = true
	} else if err != nil {
		return nil, false, err
	}
	if own != nil {
		if own.DefaultRemote != "" {
			c.DefaultRemote = own.DefaultRemote
		}
		for name, a := range own.Aliases {
			c.Aliases[name] = a
		}
		builtin := c.Remotes
		c.Remotes = map[string]Remote{}
		for name, r := range own.Remotes {
			c.Remotes[name] = r
		}
		for name, r := range builtin {
			if r.Static {
				c.Remotes[name] = r
			}
		}
	}
	if globalDir == "" {
		return c, first, nil
	}
	global, err := read(filepath.Join(globalDir, "config.yml"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	if global != nil {
		for name, r := range global.Remotes {
			if _, ok := c.Remotes[name]; !ok {
				r.Global = true
				c.Remotes[name] = r
			}
		}
	}
	return c, first, nil
}

func read(file string) (*Config, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var c Config
	if err := yaml.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf(i18n.G("Unable to read %s: %w"), file, err)
	}
	return &c, nil
}

// UseLocal makes the local server the default remote for this run. A file that is saved
// meanwhile says what it said before.
func (c *Config) UseLocal() { c.kept, c.DefaultRemote = c.DefaultRemote, "local" }

// Save writes the file. What is built in or belongs to the machine stays out.
func (c *Config) Save() error {
	out := Config{DefaultRemote: cmp.Or(c.kept, c.DefaultRemote), Aliases: c.Aliases, Remotes: map[string]Remote{}}
	for name, r := range c.Remotes {
		if !r.Global && (!r.Static || name == "local") {
			out.Remotes[name] = r
		}
	}
	b, err := yaml.Marshal(&out)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o750); err != nil {
		return err
	}
	f, err := os.CreateTemp(c.Dir, ".config-*.yml")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if _, err := f.Write(b); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(c.Dir, "config.yml"))
}

// ParseRemote splits "remote:name". Without a remote it is the default one.
func (c *Config) ParseRemote(raw string) (remote, name string, err error) {
	remote, name, ok := strings.Cut(raw, ":")
	if !ok {
		return c.DefaultRemote, raw, nil
	}
	if _, ok := c.Remotes[remote]; !ok {
		// A slash before the colon: the colon belongs to a snapshot or a path.
		if strings.Contains(remote, "/") {
			return c.DefaultRemote, raw, nil
		}
		return "", "", fmt.Errorf(i18n.G("The remote \"%s\" doesn't exist"), remote)
	}
	return remote, name, nil
}

// Names lists the remotes.
func (c *Config) Names() []string {
	out := make([]string, 0, len(c.Remotes))
	for n := range c.Remotes {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}
