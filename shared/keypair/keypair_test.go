package keypair_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sett/shared/keypair"
)

func TestServerPairSurvivesItsFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, made, err := keypair.Ensure(dir, "server", keypair.NewServer)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	key, ok := p.Leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() || len(p.Leaf.DNSNames) != 1 || len(p.Leaf.IPAddresses) != 2 || time.Until(p.Leaf.NotAfter) < 9*365*24*time.Hour {
		t.Errorf("certificate %+v", p.Leaf)
	}
	if err := p.Leaf.VerifyHostname("127.0.0.1"); err != nil {
		t.Error(err)
	}
	again, made, err := keypair.Ensure(dir, "server", keypair.NewServer)
	if err != nil || made || again.Fingerprint() != p.Fingerprint() {
		t.Errorf("the second start has another certificate: %v %v", made, err)
	}
	fi, err := os.Stat(filepath.Join(dir, "server.key"))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode: %v %v", fi, err)
	}
}

func TestClientPairIsForClients(t *testing.T) {
	t.Parallel()
	p, err := keypair.NewClient()
	if err != nil {
		t.Fatal(err)
	}
	if u := p.Leaf.ExtKeyUsage; len(u) != 1 || u[0] != x509.ExtKeyUsageClientAuth || len(p.Leaf.DNSNames) != 0 {
		t.Errorf("usage %v, names %v", u, p.Leaf.DNSNames)
	}
}

func TestACertificateWithoutItsKeyIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := keypair.Load(dir, "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no pair: %v", err)
	}
	old, _, err := keypair.Ensure(dir, "x", keypair.NewClient)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "x.crt")); err != nil {
		t.Fatal(err)
	}
	p, made, err := keypair.Ensure(dir, "x", keypair.NewClient)
	if err != nil || !made || p.Fingerprint() == old.Fingerprint() {
		t.Errorf("after a crash between the two files: %v %v", made, err)
	}
	if err := os.Remove(filepath.Join(dir, "x.key")); err != nil {
		t.Fatal(err)
	}
	// A new pair would lock out everybody who knows the certificate.
	if _, _, err := keypair.Ensure(dir, "x", keypair.NewClient); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a key: %v", err)
	}
}
