package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pkg/sftp"

	"sett/shared/api"
)

// InstanceFileClient works with the files inside of instances. Where the server has
// the extension sett_snapshot_files, those of a snapshot can be read under the name
// "INSTANCE/SNAPSHOT".
type InstanceFileClient interface {
	// GetInstanceFile opens a file, whose content the caller closes, or lists a
	// directory. The content of a symbolic link is where it leads.
	GetInstanceFile(instanceName, filePath string) (content io.ReadCloser, resp *InstanceFileResponse, err error)
	// CreateInstanceFile writes a file, or makes a directory or a symbolic link.
	CreateInstanceFile(instanceName, filePath string, args InstanceFileArgs) error
	// DeleteInstanceFile removes a file or an empty directory.
	DeleteInstanceFile(instanceName, filePath string) error
	// GetInstanceFileSFTPConn opens a connection that speaks SFTP.
	GetInstanceFileSFTPConn(instanceName string) (net.Conn, error)
	// GetInstanceFileSFTP is a client on such a connection.
	GetInstanceFileSFTP(instanceName string) (*sftp.Client, error)
}

// InstanceFileArgs is what is to be written.
type InstanceFileArgs struct {
	Content   io.ReadSeeker // of a file; of a symbolic link, its target
	UID       int64         // -1 leaves it to the server, as for GID and Mode
	GID       int64
	Mode      int
	Type      string // file, directory or symlink; empty is file
	WriteMode string // overwrite or append; empty is overwrite
}

// InstanceFileResponse describes what was opened.
type InstanceFileResponse struct {
	UID     int64
	GID     int64
	Mode    int
	Type    string
	Entries []string // of a directory
}

// filesOf is the path of an instance, or of a snapshot of one, "INSTANCE/SNAPSHOT".
func filesOf(instance, what string) string {
	if i, snapshot, ok := strings.Cut(instance, "/"); ok {
		return path("instances", i, "snapshots", snapshot, what)
	}
	return path("instances", instance, what)
}

func filePath(instance, name string) string {
	return filesOf(instance, "files") + "?path=" + url.QueryEscape(name)
}

// GetInstanceFile opens a file or lists a directory.
func (r *ProtocolLXD) GetInstanceFile(instanceName, name string) (io.ReadCloser, *InstanceFileResponse, error) {
	body, resp, err := r.stream(filePath(instanceName, name))
	if err != nil {
		return nil, nil, err
	}
	out := &InstanceFileResponse{UID: -1, GID: -1, Mode: 0o644, Type: resp.Header.Get("X-LXD-type")}
	if n, err := strconv.ParseInt(resp.Header.Get("X-LXD-uid"), 10, 64); err == nil {
		out.UID = n
	}
	if n, err := strconv.ParseInt(resp.Header.Get("X-LXD-gid"), 10, 64); err == nil {
		out.GID = n
	}
	if n, err := strconv.ParseInt(resp.Header.Get("X-LXD-mode"), 8, 64); err == nil {
		out.Mode = int(n)
	}
	if out.Type == "" {
		out.Type = "file"
	}
	if out.Type != "directory" {
		return body, out, nil
	}
	defer func() { _ = body.Close() }()
	a, _, err := envelope(resp)
	if err != nil {
		return nil, nil, err
	}
	return nil, out, a.MetadataAsStruct(&out.Entries)
}

// CreateInstanceFile writes a file, or makes a directory or a symbolic link.
func (r *ProtocolLXD) CreateInstanceFile(instanceName, name string, args InstanceFileArgs) error {
	var body io.Reader
	if args.Content != nil {
		body = args.Content
	}
	req, err := r.request(http.MethodPost, filePath(instanceName, name), body, "")
	if err != nil {
		return err
	}
	// A size that is known beforehand spares both sides the pieces of a chunked body.
	if args.Content != nil {
		if at, err := args.Content.Seek(0, io.SeekCurrent); err == nil {
			if end, err := args.Content.Seek(0, io.SeekEnd); err == nil && end > at {
				req.ContentLength = end - at
			}
			if _, err := args.Content.Seek(at, io.SeekStart); err != nil {
				return err
			}
		}
	}
	if args.UID >= 0 {
		req.Header.Set("X-LXD-uid", strconv.FormatInt(args.UID, 10))
	}
	if args.GID >= 0 {
		req.Header.Set("X-LXD-gid", strconv.FormatInt(args.GID, 10))
	}
	if args.Mode >= 0 {
		req.Header.Set("X-LXD-mode", fmt.Sprintf("0%03o", args.Mode)) // the zero says that it is octal
	}
	if args.Type != "" {
		req.Header.Set("X-LXD-type", args.Type)
	}
	if args.WriteMode != "" {
		req.Header.Set("X-LXD-write", args.WriteMode)
	}
	_, _, err = r.do(req)
	return err
}

// DeleteInstanceFile removes a file or an empty directory.
func (r *ProtocolLXD) DeleteInstanceFile(instanceName, name string) error {
	return r.exec(http.MethodDelete, filePath(instanceName, name), nil, "")
}

// GetInstanceFileSFTPConn opens a connection that speaks SFTP.
func (r *ProtocolLXD) GetInstanceFileSFTPConn(instanceName string) (net.Conn, error) {
	req, err := r.request(http.MethodGet, filesOf(instanceName, "sftp"), nil, "")
	if err != nil {
		return nil, err
	}
	// The transport knows no deadline for a connection that it has given away, so the
	// request's context is what ends it.
	ctx, cancel := context.WithCancel(req.Context())
	req = req.WithContext(ctx)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "sftp")
	resp, err := r.http.Do(req)
	if err != nil {
		cancel()
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer cancel()
		defer func() { _ = resp.Body.Close() }()
		if _, _, err := envelope(resp); err != nil {
			return nil, err
		}
		return nil, api.StatusErrorf(resp.StatusCode, "The server did not go over to SFTP")
	}
	rw, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		cancel()
		return nil, errors.New("The connection cannot be taken over")
	}
	return &upgraded{rw, cancel, req.URL.Host}, nil
}

// GetInstanceFileSFTP opens a client on a connection that speaks SFTP.
func (r *ProtocolLXD) GetInstanceFileSFTP(instanceName string) (*sftp.Client, error) {
	conn, err := r.GetInstanceFileSFTPConn(instanceName)
	if err != nil {
		return nil, err
	}
	c, err := sftp.NewClientPipe(conn, conn)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

// upgraded is a connection that HTTP has given away.
type upgraded struct {
	io.ReadWriteCloser
	cancel context.CancelFunc
	host   string
}

func (u *upgraded) Close() error {
	defer u.cancel()
	return u.ReadWriteCloser.Close()
}

type address string

func (address) Network() string  { return "sftp" }
func (a address) String() string { return string(a) }

func (u *upgraded) LocalAddr() net.Addr              { return address("") }
func (u *upgraded) RemoteAddr() net.Addr             { return address(u.host) }
func (u *upgraded) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (u *upgraded) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (u *upgraded) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
