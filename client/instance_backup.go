package client

import (
	"io"
	"net/http"

	"sett/shared/api"
)

// InstanceBackupClient works with the backups of instances.
type InstanceBackupClient interface {
	GetInstanceBackupNames(instanceName string) ([]string, error)
	GetInstanceBackups(instanceName string) ([]api.InstanceBackup, error)
	GetInstanceBackup(instanceName, name string) (*api.InstanceBackup, string, error)
	CreateInstanceBackup(instanceName string, backup api.InstanceBackupsPost) (Operation, error)
	RenameInstanceBackup(instanceName, name string, backup api.InstanceBackupPost) (Operation, error)
	DeleteInstanceBackup(instanceName, name string) (Operation, error)
	GetInstanceBackupFile(instanceName, name string, req *BackupFileRequest) (*BackupFileResponse, error)
	CreateInstanceFromBackup(args InstanceBackupArgs) (Operation, error)
}

// BackupFileRequest says where a backup goes.
type BackupFileRequest struct {
	BackupFile      io.Writer
	ProgressHandler func(progress ProgressData)
}

// BackupFileResponse tells what came.
type BackupFileResponse struct {
	Size int64
}

// InstanceBackupArgs is a backup to be made an instance.
type InstanceBackupArgs struct {
	BackupFile io.Reader
	PoolName   string // Empty: the server finds one
	Name       string // Empty: as in the backup
}

// GetInstanceBackupNames lists the names of an instance's backups.
func (r *ProtocolLXD) GetInstanceBackupNames(instanceName string) ([]string, error) {
	p := path("instances", instanceName, "backups")
	return names(r, p, p)
}

// GetInstanceBackups lists an instance's backups.
func (r *ProtocolLXD) GetInstanceBackups(instanceName string) ([]api.InstanceBackup, error) {
	return list[api.InstanceBackup](r, path("instances", instanceName, "backups")+"?recursion=1")
}

// GetInstanceBackup returns a backup.
func (r *ProtocolLXD) GetInstanceBackup(instanceName, name string) (*api.InstanceBackup, string, error) {
	return fetch[api.InstanceBackup](r, path("instances", instanceName, "backups", name))
}

// CreateInstanceBackup makes a backup on the server.
func (r *ProtocolLXD) CreateInstanceBackup(instanceName string, backup api.InstanceBackupsPost) (Operation, error) {
	if err := r.needAll(map[string]bool{"container_backup": true, "backup_compression_algorithm": backup.CompressionAlgorithm != ""}); err != nil {
		return nil, err
	}
	op, _, err := r.queryOperation(http.MethodPost, path("instances", instanceName, "backups"), backup, "")
	return op, err
}

// RenameInstanceBackup renames a backup.
func (r *ProtocolLXD) RenameInstanceBackup(instanceName, name string, backup api.InstanceBackupPost) (Operation, error) {
	op, _, err := r.queryOperation(http.MethodPost, path("instances", instanceName, "backups", name), backup, "")
	return op, err
}

// DeleteInstanceBackup removes a backup.
func (r *ProtocolLXD) DeleteInstanceBackup(instanceName, name string) (Operation, error) {
	op, _, err := r.queryOperation(http.MethodDelete, path("instances", instanceName, "backups", name), nil, "")
	return op, err
}

// GetInstanceBackupFile downloads a backup.
func (r *ProtocolLXD) GetInstanceBackupFile(instanceName, name string, req *BackupFileRequest) (*BackupFileResponse, error) {
	body, resp, err := r.stream(path("instances", instanceName, "backups", name, "export"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	from := io.Reader(body)
	if req.ProgressHandler != nil {
		from = &progressReader{r: body, total: resp.ContentLength, report: req.ProgressHandler}
	}
	n, err := io.Copy(req.BackupFile, from)
	if err != nil {
		return nil, err
	}
	return &BackupFileResponse{Size: n}, nil
}

// CreateInstanceFromBackup uploads a backup, of which the server makes an instance.
func (r *ProtocolLXD) CreateInstanceFromBackup(args InstanceBackupArgs) (Operation, error) {
	if err := r.needAll(map[string]bool{"container_backup": true, "container_backup_override_pool": args.PoolName != "", "backup_override_name": args.Name != ""}); err != nil {
		return nil, err
	}
	req, err := r.request(http.MethodPost, "/1.0/instances", args.BackupFile, "")
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if args.PoolName != "" {
		req.Header.Set("X-LXD-pool", args.PoolName)
	}
	if args.Name != "" {
		req.Header.Set("X-LXD-name", args.Name)
	}
	op, _, err := r.doOperation(req)
	return op, err
}
