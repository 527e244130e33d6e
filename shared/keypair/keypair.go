package keypair

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"time"
)

// lifetime is how long a certificate is good for: as nobody renews them, long.
const lifetime = 10 * 365 * 24 * time.Hour

// Pair is a certificate and its key.
type Pair struct {
	TLS  tls.Certificate
	Leaf *x509.Certificate
	Cert []byte // PEM
	Key  []byte // PEM
}

// Fingerprint is how people and servers know the certificate.
func (p *Pair) Fingerprint() string { return Fingerprint(p.Leaf) }

// Fingerprint is the SHA-256 of a certificate, in hexadecimal.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// NewServer makes what a server shows. Its names are the host's and the loopback
// addresses; members of a cluster show it to each other as clients, too.
func NewServer() (*Pair, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return generate(func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		c.DNSNames = []string{host}
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	})
}

// NewClient makes what a client shows.
func NewClient() (*Pair, error) {
	return generate(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
}

// whose is the common name of new certificates, user@host.
func whose() string {
	name, host := "UNKNOWN", "UNKNOWN"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

func generate(shape func(*x509.Certificate)) (*Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"Sett"}, CommonName: whose()},
		NotBefore: now, NotAfter: now.Add(lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, BasicConstraintsValid: true,
	}
	shape(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return Parse(EncodeCert(der), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}))
}

// EncodeCert turns the DER form of a certificate into PEM.
func EncodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// Parse reads a pair from PEM.
func Parse(cert, key []byte) (*Pair, error) {
	t, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	return &Pair{TLS: t, Leaf: t.Leaf, Cert: cert, Key: key}, nil
}

// ParseCert reads one certificate from PEM.
func ParseCert(text []byte) (*x509.Certificate, error) {
	b, _ := pem.Decode(text)
	if b == nil || b.Type != "CERTIFICATE" {
		return nil, errors.New("not a certificate in PEM form")
	}
	return x509.ParseCertificate(b.Bytes)
}

// Load reads dir/name.crt and dir/name.key. Without a certificate the error is
// fs.ErrNotExist, whatever the key: one alone is what a crash during Save leaves.
func Load(dir, name string) (*Pair, error) {
	certFile, keyFile := files(dir, name)
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is there, but %s is not: put it back, or remove the certificate for a new one", certFile, keyFile)
	}
	if err != nil {
		return nil, err
	}
	p, err := Parse(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", certFile, keyFile, err)
	}
	return p, nil
}

// Save writes dir/name.crt and dir/name.key, the key for its owner only.
func (p *Pair) Save(dir, name string) error {
	certFile, keyFile := files(dir, name)
	for _, f := range []struct {
		path string
		text []byte
		mode os.FileMode
	}{{keyFile, p.Key, 0o600}, {certFile, p.Cert, 0o644}} {
		if err := write(f.path, f.text, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// Remove deletes dir/name.crt and dir/name.key, where they are.
func Remove(dir, name string) error {
	certFile, keyFile := files(dir, name)
	var all []error
	for _, f := range []string{certFile, keyFile} {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// Ensure loads a pair, or makes and saves it when there is none.
func Ensure(dir, name string, make func() (*Pair, error)) (p *Pair, made bool, err error) {
	if p, err = Load(dir, name); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return p, false, err
	}
	if p, err = make(); err != nil {
		return nil, false, err
	}
	return p, true, p.Save(dir, name)
}

func files(dir, name string) (cert, key string) {
	return filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
}

// write replaces a file in one step.
func write(path string, text []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
