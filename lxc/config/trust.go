package config

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"sett/shared/keypair"
)

// clientFile is the name of the client's key pair, without ending.
const clientFile = "client"

// ClientPair is what this client shows to servers; it is made when there is none.
func (c *Config) ClientPair() (p *keypair.Pair, made bool, err error) {
	if err := os.MkdirAll(c.Dir, 0o750); err != nil {
		return nil, false, err
	}
	return keypair.Ensure(c.Dir, clientFile, keypair.NewClient)
}

// serverCert is where the certificate of a remote's server is kept.
func (c *Config) serverCert(remote string) string {
	return filepath.Join(c.Dir, "servercerts", remote+".crt")
}

// TrustServer keeps the certificate that the server of a remote must show; nil
// means one that the system's authorities vouch for.
func (c *Config) TrustServer(remote string, cert *x509.Certificate) error {
	if cert == nil {
		return c.ForgetServer(remote)
	}
	file := c.serverCert(remote)
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	return os.WriteFile(file, keypair.EncodeCert(cert.Raw), 0o644)
}

// ForgetServer removes the certificate of a remote's server.
func (c *Config) ForgetServer(remote string) error {
	err := os.Remove(c.serverCert(remote))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// RenameServer keeps the certificate of a remote's server under another name.
func (c *Config) RenameServer(from, to string) error {
	err := os.Rename(c.serverCert(from), c.serverCert(to))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
