package api

import (
	"time"
)

// WarningPut holds what can be changed about a warning.
type WarningPut struct {
	// "new" or "acknowledged"; the server adds "resolved".
	Status string `json:"status" yaml:"status"`
}

// Warning is something that a server could not do as asked.
type Warning struct {
	WarningPut `yaml:",inline"`

	UUID        string    `json:"uuid" yaml:"uuid"`
	Location    string    `json:"location" yaml:"location"`
	Project     string    `json:"project" yaml:"project"`
	Type        string    `json:"type" yaml:"type"`
	Count       int       `json:"count" yaml:"count"`
	FirstSeenAt time.Time `json:"first_seen_at" yaml:"first_seen_at"`
	LastSeenAt  time.Time `json:"last_seen_at" yaml:"last_seen_at"`
	LastMessage string    `json:"last_message" yaml:"last_message"`
	Severity    string    `json:"severity" yaml:"severity"`
	EntityURL   string    `json:"entity_url" yaml:"entity_url"`
}

// Writable returns the part of a warning that PUT and PATCH take.
func (w *Warning) Writable() WarningPut { return w.WarningPut }
