package client

import (
	"io"
	"net/http"
)

// InstanceLogClient reads the logs of instances.
type InstanceLogClient interface {
	GetInstanceLogfiles(name string) ([]string, error)
	GetInstanceLogfile(name, filename string) (io.ReadCloser, error)
	DeleteInstanceLogfile(name, filename string) error
}

// GetInstanceLogfiles lists the log files of an instance.
func (r *ProtocolLXD) GetInstanceLogfiles(name string) ([]string, error) {
	p := path("instances", name, "logs")
	return names(r, p, p)
}

// GetInstanceLogfile opens a log file. The caller closes it.
func (r *ProtocolLXD) GetInstanceLogfile(name, filename string) (io.ReadCloser, error) {
	body, _, err := r.stream(path("instances", name, "logs", filename))
	return body, err
}

// DeleteInstanceLogfile removes a log file.
func (r *ProtocolLXD) DeleteInstanceLogfile(name, filename string) error {
	return r.exec(http.MethodDelete, path("instances", name, "logs", filename), nil, "")
}

// text reads a small body.
func (r *ProtocolLXD) text(p string) (string, error) {
	body, _, err := r.stream(p)
	if err != nil {
		return "", err
	}
	defer func() { _ = body.Close() }()
	b, err := io.ReadAll(body)
	return string(b), err
}
