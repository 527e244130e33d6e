package api

import (
	"fmt"
	"time"
)

// Operation is work in the background, as the API shows it.
type Operation struct {
	ID string `json:"id" yaml:"id"`
	// "task", "websocket" or "token".
	Class       string     `json:"class" yaml:"class"`
	Description string     `json:"description" yaml:"description"`
	CreatedAt   time.Time  `json:"created_at" yaml:"created_at"`
	UpdatedAt   time.Time  `json:"updated_at" yaml:"updated_at"`
	Status      string     `json:"status" yaml:"status"`
	StatusCode  StatusCode `json:"status_code" yaml:"status_code"`
	// URLs of what the work is about, by kind ("instances", ...); without a project.
	Resources map[string][]string `json:"resources" yaml:"resources"`
	Metadata  map[string]any      `json:"metadata" yaml:"metadata"`
	MayCancel bool                `json:"may_cancel" yaml:"may_cancel"`
	Err       string              `json:"err" yaml:"err"`
	Location  string              `json:"location" yaml:"location"`
	// Who asked for it; missing for work of the server's own. API extension: operation_requestor.
	Requestor *OperationRequestor `json:"requestor,omitempty" yaml:"requestor,omitempty"`
	// When it ended; missing as long as it runs. API extension: sett_operation_history.
	EndedAt *time.Time `json:"ended_at,omitempty" yaml:"ended_at,omitempty"`
	// What it did, oldest first. API extension: sett_operation_history.
	Log []OperationStep `json:"log,omitempty" yaml:"log,omitempty"`
}

// OperationRequestor tells who asked for an operation.
type OperationRequestor = EventLifecycleRequestor

// OperationStep is one line of the log of an operation.
type OperationStep struct {
	At   time.Time `json:"at" yaml:"at"`
	Text string    `json:"text" yaml:"text"`
}

// ToCertificateAddToken reads a trust token out of a token operation.
func (op *Operation) ToCertificateAddToken() (*CertificateAddToken, error) {
	var t CertificateAddToken
	req, ok := op.Metadata["request"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("Operation %s carries no trust token: metadata lacks %q", op.ID, "request")
	}
	if t.ClientName, ok = req["name"].(string); !ok {
		return nil, fmt.Errorf("Operation %s carries no trust token: metadata lacks %q", op.ID, "request.name")
	}
	exp, err := op.tokenParts(&t.Secret, &t.Fingerprint, &t.Addresses)
	if err != nil {
		return nil, err
	}
	t.ExpiresAt = exp
	return &t, nil
}

// ToClusterJoinToken reads a join token out of a token operation.
func (op *Operation) ToClusterJoinToken() (*ClusterMemberJoinToken, error) {
	var t ClusterMemberJoinToken
	var ok bool
	if t.ServerName, ok = op.Metadata["serverName"].(string); !ok {
		return nil, fmt.Errorf("Operation %s carries no join token: metadata lacks %q", op.ID, "serverName")
	}
	exp, err := op.tokenParts(&t.Secret, &t.Fingerprint, &t.Addresses)
	if err != nil {
		return nil, err
	}
	t.ExpiresAt = exp
	return &t, nil
}

func (op *Operation) tokenParts(secret, fingerprint *string, addresses *[]string) (expires time.Time, err error) {
	lacks := func(key string) error {
		return fmt.Errorf("Operation %s carries no token: metadata lacks %q", op.ID, key)
	}
	var ok bool
	if *secret, ok = op.Metadata["secret"].(string); !ok {
		return expires, lacks("secret")
	}
	if *fingerprint, ok = op.Metadata["fingerprint"].(string); !ok {
		return expires, lacks("fingerprint")
	}
	list, ok := op.Metadata["addresses"].([]any)
	if !ok {
		return expires, lacks("addresses")
	}
	for _, a := range list {
		s, ok := a.(string)
		if !ok {
			return expires, lacks("addresses")
		}
		*addresses = append(*addresses, s)
	}
	// Servers before the expiry of tokens leave the key out.
	if at, ok := op.Metadata["expiresAt"].(string); ok {
		expires, err = time.Parse(time.RFC3339Nano, at)
	}
	return expires, err
}
