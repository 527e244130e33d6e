package file

import (
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/lxc/cli"
	"sett/shared/i18n"
	"sett/shared/units"
)

// folderMode is that of folders made here.
const folderMode = 0o755

// Command builds "lxc file".
func Command(a *cli.App) *cobra.Command {
	return cli.Noun(cli.Help{Use: "file", Short: i18n.G("Manage files in instances")},
		deleteCommand(a), editCommand(a), mountCommand(a), pullCommand(a), pushCommand(a))
}

// place is a file of an instance: "[remote:]instance/path".
type place struct {
	cli.Resource
	path string // absolute
	dir  bool   // written with a slash at its end
}

// places reads arguments; invalid is the message for what is no place.
func places(a *cli.App, cmd *cobra.Command, args []string, invalid string) ([]place, error) {
	rs, err := a.Resources(cmd, args)
	if err != nil {
		return nil, err
	}
	var out []place
	for _, r := range rs {
		instance, p, ok := strings.Cut(r.Name, "/")
		if !ok || instance == "" {
			return nil, fmt.Errorf(invalid, r.Name)
		}
		dir := p == "" || strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.")
		r.Name = instance
		out = append(out, place{Resource: r, path: path.Clean("/" + p), dir: dir})
	}
	return out, nil
}

func (p place) String() string { return p.Name + p.path }

// makeFolders makes a folder in an instance and all that is missing above it. What is
// there already keeps owner and mode.
func makeFolders(p place, dir string, mode int, uid, gid int64) error {
	dir = path.Clean("/" + dir)
	if dir == "/" {
		return nil
	}
	// From the end on, because most of it is usually there.
	missing := []string{}
	for at := dir; at != "/"; at = path.Dir(at) {
		content, resp, err := p.Server.GetInstanceFile(p.Name, at)
		if err != nil {
			missing = append(missing, at)
			continue
		}
		if content != nil {
			_ = content.Close()
		}
		if resp.Type == "file" {
			return fmt.Errorf(i18n.G("%s is not a directory"), at)
		}
		break
	}
	for i := len(missing) - 1; i >= 0; i-- {
		err := p.Server.CreateInstanceFile(p.Name, missing[i], client.InstanceFileArgs{UID: uid, GID: gid, Mode: mode, Type: "directory"})
		if err != nil {
			return err
		}
	}
	return nil
}

// counter shows how much has passed.
type counter struct {
	r     io.Reader
	p     *cli.Progress
	size  int64 // or 0
	n     int64
	shown int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	if c.n-c.shown >= 1<<20 {
		c.shown = c.n
		text := units.GetByteSizeString(c.n, 2)
		if c.size > 0 {
			text = fmt.Sprintf("%d%% (%s)", c.n*100/c.size, text)
		}
		c.p.Update(text)
	}
	return n, err
}

// seeking is a counter for what can seek, as far as what it reads can.
type seeking struct {
	counter
	s io.Seeker
}

func (s *seeking) Seek(offset int64, whence int) (int64, error) { return s.s.Seek(offset, whence) }

func counted(f *os.File, p *cli.Progress) *seeking {
	size := int64(0)
	if fi, err := f.Stat(); err == nil && fi.Mode().IsRegular() {
		size = fi.Size()
	}
	return &seeking{counter{r: f, p: p, size: size}, f}
}

// permissions are the mode of a local file in the kernel's form.
func permissions(fi os.FileInfo) int {
	m := int(fi.Mode().Perm())
	if fi.Mode()&os.ModeSetuid != 0 {
		m |= 0o4000
	}
	if fi.Mode()&os.ModeSetgid != 0 {
		m |= 0o2000
	}
	if fi.Mode()&os.ModeSticky != 0 {
		m |= 0o1000
	}
	return m
}
