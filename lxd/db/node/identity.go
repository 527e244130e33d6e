package node

import (
	"context"
	"encoding/json"
	"fmt"
)

// Identity is what a member must know of itself before the shared database runs. A
// server that stands alone has none.
type Identity struct {
	ID      int64  `json:"id"` // in nodes, and of the database's node
	Name    string `json:"name"`
	Address string `json:"address"`
}

const noteIdentity = "member"

// Identity returns the member's identity; nil when the server stands alone.
func (d *DB) Identity(ctx context.Context) (*Identity, error) {
	text, err := d.Note(ctx, noteIdentity)
	if err != nil || text == "" {
		return nil, err
	}
	var i Identity
	if err := json.Unmarshal([]byte(text), &i); err != nil {
		return nil, fmt.Errorf("read what the local database knows of this member: %w", err)
	}
	return &i, nil
}

// SetIdentity makes the server a member, or with nil one that stands alone, from the
// next start on.
func (d *DB) SetIdentity(ctx context.Context, i *Identity) error {
	if i == nil {
		return d.SetNote(ctx, noteIdentity, "")
	}
	b, err := json.Marshal(i)
	if err != nil {
		return err
	}
	return d.SetNote(ctx, noteIdentity, string(b))
}
