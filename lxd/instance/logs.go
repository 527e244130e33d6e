package instance

import (
	"context"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"sett/lxd/entity"
	"sett/lxd/rest"
	"sett/shared/errs"
)

// ConsoleLogSize is how much of what an instance prints on its console is kept.
const ConsoleLogSize = 128 << 10

// checkLog lets through the names of log files that this daemon writes, and nothing
// that leads out of the folder.
func checkLog(name string) error {
	switch {
	case name == "lxc.log", name == "lxc.conf", name == "console.log", name == "forkexec.log", name == "forkstart.log":
		return nil
	case strings.HasPrefix(name, "exec_") && !strings.ContainsAny(name, "/\x00") &&
		(strings.HasSuffix(name, ".stdout") || strings.HasSuffix(name, ".stderr")):
		return nil
	}
	return errs.Invalid("Log file name %q not valid", name)
}

func (s *Service) handleLogs(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := s.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, err
	}
	ents, err := os.ReadDir(s.LogDir(i.Project, i.Name))
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	names := []string{}
	for _, e := range ents {
		if checkLog(e.Name()) == nil && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return rest.Sync(rest.URLs(r.Path(), i.Project, names)), nil
}

func (s *Service) handleLog(ctx context.Context, r *rest.Request) (rest.Response, error) {
	root, at, err := s.logFile(ctx, r)
	if err != nil {
		return nil, err
	}
	name := at.Name()
	return rest.Raw(func(w http.ResponseWriter, hr *http.Request) error {
		defer root.Close()
		f, err := root.Open(name)
		if err != nil {
			return logErr(name, err)
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Disposition", "inline;filename="+name)
		s.Bus.Lifecycle("instance-log-retrieved", at, r.Caller().Requestor(), nil)
		http.ServeContent(w, hr, name, fi.ModTime(), f)
		return nil
	}), nil
}

func (s *Service) handleLogDelete(ctx context.Context, r *rest.Request) (rest.Response, error) {
	root, at, err := s.logFile(ctx, r)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	name := at.Name()
	if name == "lxc.log" || name == "lxc.conf" {
		return nil, errs.Invalid("Log file %q cannot be deleted", name)
	}
	if err := root.Remove(name); err != nil {
		return nil, logErr(name, err)
	}
	s.Bus.Lifecycle("instance-log-deleted", at, r.Caller().Requestor(), nil)
	return rest.Empty(), nil
}

// logFile opens the folder of a log file and names that.
func (s *Service) logFile(ctx context.Context, r *rest.Request) (*os.Root, entity.Ref, error) {
	i, err := s.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, entity.Ref{}, err
	}
	name := r.Value(1)
	if err := checkLog(name); err != nil {
		return nil, entity.Ref{}, err
	}
	root, err := os.OpenRoot(s.LogDir(i.Project, i.Name))
	if err != nil {
		return nil, entity.Ref{}, logErr(name, err)
	}
	return root, entity.New(entity.InstanceLog, i.Project, i.Name, name), nil
}

func logErr(name string, err error) error {
	if err == nil || !os.IsNotExist(err) {
		return err
	}
	return errs.Wrap(errs.KindNotFound, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist})
}
