package render

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/flosch/pongo2/v6"
)

// Bounds of one job. A template writes configuration files, so these are far away
// from what anybody needs.
const (
	MaxSource = 1 << 20 // bytes of one template
	MaxOutput = 4 << 20 // bytes that one template may make
	MaxFiles  = 256
	wallTime  = 10 * time.Second
	cpuTime   = 5 // seconds
	memory    = 512 << 20
)

// File is one template to be rendered.
type File struct {
	Trigger    string            `json:"trigger"` // why: "create", "copy", "rename", "start"
	Path       string            `json:"path"`    // where the text will go
	Source     string            `json:"source"`
	Properties map[string]string `json:"properties"`
}

// Job is what templates may read, and the templates.
type Job struct {
	Instance map[string]string            `json:"instance"` // name, type, architecture, ...
	Config   map[string]string            `json:"config"`
	Devices  map[string]map[string]string `json:"devices"`
	Files    []File                       `json:"files"`
}

// Error is what is wrong with a template.
type Error struct {
	Path string // where its text would have gone
	Text string
}

func (e *Error) Error() string {
	if e.Path == "" {
		return "the templates cannot be rendered: " + e.Text
	}
	return fmt.Sprintf("the template of %s cannot be rendered: %s", e.Path, e.Text)
}

// Direct renders in this process. Nothing ends a template that runs for ever, so it
// is for the child, and for tests with templates of their own.
type Direct struct{}

// Render returns the text of each file of a job.
func (Direct) Render(_ context.Context, j Job) ([]string, error) {
	out := make([]string, len(j.Files))
	for n, f := range j.Files {
		text, err := one(j, f)
		if err != nil {
			return nil, &Error{f.Path, short(err)}
		}
		out[n] = text
	}
	return out, nil
}

func one(j Job, f File) (text string, err error) {
	// The parser of the language has been seen to panic on odd input.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the template language fails on it: %v", p)
		}
	}()
	if len(f.Source) > MaxSource {
		return "", fmt.Errorf("it is longer than %d bytes", MaxSource)
	}
	set := pongo2.NewSet("instance", nothing{})
	for _, tag := range []string{"include", "import", "extends", "ssi", "lorem"} {
		if err := set.BanTag(tag); err != nil {
			return "", err
		}
	}
	// What is made are configuration files, not HTML.
	t, err := set.FromString("{% autoescape off %}" + f.Source + "{% endautoescape %}")
	if err != nil {
		return "", err
	}
	w := &bounded{left: MaxOutput}
	err = t.ExecuteWriterUnbuffered(pongo2.Context{
		"trigger": f.Trigger, "path": f.Path, "properties": f.Properties,
		"instance": j.Instance, "container": j.Instance, // as it was called first
		"config": j.Config, "devices": j.Devices,
		"config_get": func(key, fallback *pongo2.Value) *pongo2.Value {
			v, ok := j.Config[key.String()]
			if !ok {
				return fallback
			}
			return pongo2.AsValue(strings.TrimRight(v, "\r\n"))
		},
	}, w)
	if w.left < 0 {
		return "", fmt.Errorf("it makes more than %d bytes", MaxOutput)
	}
	return w.b.String(), err
}

func short(err error) string {
	s := strings.ToValidUTF8(err.Error(), "?")
	if len(s) > 500 {
		s = strings.ToValidUTF8(s[:500], "") + "..."
	}
	return s
}

// nothing is all that a template can load.
type nothing struct{}

func (nothing) Abs(_, name string) string { return name }

func (nothing) Get(string) (io.Reader, error) {
	return nil, errors.New("templates of instances cannot read files")
}

// bounded takes so many bytes and no more.
type bounded struct {
	b    bytes.Buffer
	left int
}

func (w *bounded) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errors.New("too much")
	}
	return w.b.Write(p)
}
