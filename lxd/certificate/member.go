package certificate

import (
	"context"
	"crypto/x509"
	"encoding/pem"

	"sett/lxd/db"
	"sett/shared/errs"
	"sett/shared/keypair"
)

// The certificates of members, for those who form clusters. The Trust of each member
// is to be refreshed after the commit.

const (
	stmtMember       db.Stmt = `SELECT 1 FROM nodes WHERE name = ?`
	stmtServerDelete db.Stmt = `DELETE FROM certificates WHERE type = 2 AND name = ?`
	stmtServersDrop  db.Stmt = `DELETE FROM certificates WHERE type = 2`
	stmtServerRename db.Stmt = `UPDATE certificates SET name = ? WHERE type = 2 AND name = ?`
)

// CreateServer trusts a member's certificate, in PEM.
func CreateServer(ctx context.Context, tx *db.Tx, member, text string) error {
	b, _ := pem.Decode([]byte(text))
	if b == nil {
		return errs.Invalid("The member's certificate is not in PEM")
	}
	leaf, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		return errs.Invalid("The member's certificate cannot be read: %v", err)
	}
	err = create(ctx, tx, Certificate{Fingerprint: keypair.Fingerprint(leaf), Type: Server, Name: member, PEM: text})
	if db.IsDuplicate(err) {
		return errs.Conflict("The certificate of the server is trusted already; remove it from the trust store first")
	}
	return err
}

// checkMember refuses to let the certificate of a member be taken from it: the others
// would refuse to talk to it, though it is a member.
func checkMember(ctx context.Context, tx *db.Tx, c Certificate) error {
	if c.Type != Server {
		return nil
	}
	is, err := db.Exists(ctx, tx, stmtMember, c.Name)
	if err == nil && is {
		err = errs.Invalid("The certificate is that of cluster member %q, by which the others know it; it goes with the member (lxc cluster remove %s)", c.Name, c.Name)
	}
	return err
}

// RenameServer follows a member's new name.
func RenameServer(ctx context.Context, tx *db.Tx, from, to string) error {
	_, err := db.Exec(ctx, tx, stmtServerRename, to, from)
	return err
}

// DeleteServers stops trusting all members.
func DeleteServers(ctx context.Context, tx *db.Tx) error {
	_, err := db.Exec(ctx, tx, stmtServersDrop)
	return err
}

// DeleteServer stops trusting a member.
func DeleteServer(ctx context.Context, tx *db.Tx, member string) error {
	_, err := db.Exec(ctx, tx, stmtServerDelete, member)
	return err
}
