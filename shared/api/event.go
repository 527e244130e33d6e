package api

import (
	"encoding/json"
	"time"
)

// Event is one frame of the events websocket. Metadata is an Operation, an EventLogging or an EventLifecycle, as Type tells.
type Event struct {
	Type      string          `json:"type" yaml:"type"`
	Timestamp time.Time       `json:"timestamp" yaml:"timestamp"`
	Metadata  json.RawMessage `json:"metadata" yaml:"metadata"`
	Location  string          `json:"location,omitempty" yaml:"location,omitempty"`
	Project   string          `json:"project,omitempty" yaml:"project,omitempty"`
}

// EventLogging is the payload of a logging event; only administrators get them.
type EventLogging struct {
	Message string            `json:"message" yaml:"message"`
	Level   string            `json:"level" yaml:"level"`
	Context map[string]string `json:"context" yaml:"context"`
}

// EventLifecycle is the payload of a lifecycle event: what happened to which object.
type EventLifecycle struct {
	Action string `json:"action" yaml:"action"`
	// URL of the object, with its project where that is not the default.
	Source    string                   `json:"source" yaml:"source"`
	Context   map[string]any           `json:"context,omitempty" yaml:"context,omitempty"`
	Requestor *EventLifecycleRequestor `json:"requestor,omitempty" yaml:"requestor,omitempty"`
}

// EventLifecycleRequestor tells who asked for what happened.
type EventLifecycleRequestor struct {
	Username string `json:"username" yaml:"username"`
	Protocol string `json:"protocol" yaml:"protocol"`
	Address  string `json:"address" yaml:"address"`
}

// Types of events.
const (
	EventTypeLifecycle = "lifecycle"
	EventTypeLogging   = "logging"
	EventTypeOperation = "operation"
)
