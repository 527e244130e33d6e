package client

import (
	"context"
	"net/http"

	"github.com/gorilla/websocket"

	"sett/shared/api"
)

// Connection is what all connections have.
type Connection interface {
	// GetConnectionInfo tells whom one talks to.
	GetConnectionInfo() (*ConnectionInfo, error)
	// GetHTTPClient returns the HTTP client of the connection.
	GetHTTPClient() (*http.Client, error)
	// Disconnect ends event streams and closes idle connections.
	Disconnect()
}

// ConnectionInfo tells whom one talks to.
type ConnectionInfo struct {
	Addresses   []string
	Certificate string
	Protocol    string
	URL         string
	SocketPath  string
	Project     string
	Target      string
}

// ImageServer is a server that one can get images from.
type ImageServer interface {
	Connection
	ImageReader
}

// InstanceServer is a whole server.
type InstanceServer interface {
	Connection
	ServerClient
	EventClient
	OperationClient
	InstanceClient
	InstanceStateClient
	InstanceExecClient
	InstanceFileClient
	InstanceConsoleClient
	InstanceLogClient
	InstanceSnapshotClient
	InstanceBackupClient
	InstanceMetadataClient
	ProfileClient
	ProjectClient
	CertificateClient
	ClusterClient
	ImageClient
	NetworkClient
	StoragePoolClient
	StorageVolumeClient
	WarningClient
	WebUIClient

	// UseProject returns a view that works in another project.
	UseProject(name string) InstanceServer
	// UseTarget returns a view whose requests name a cluster member.
	UseTarget(name string) InstanceServer
	// WithContext returns a view whose requests end with ctx.
	WithContext(ctx context.Context) InstanceServer

	// RawQuery sends a request of any path and returns the envelope and its ETag.
	RawQuery(method, path string, data any, ETag string) (*api.Response, string, error)
	// RawWebsocket opens a websocket at any path.
	RawWebsocket(path string) (*websocket.Conn, error)
	// RawOperation is RawQuery for requests that start work in the background.
	RawOperation(method, path string, data any, ETag string) (Operation, string, error)
	// GetETag returns the current ETag of an object.
	GetETag(path string) (string, error)
}
