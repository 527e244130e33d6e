package api

import (
	"encoding/json"
	"net/http"
)

// ResponseType says how to read an answer.
type ResponseType string

// The types of answers.
const (
	SyncResponse  ResponseType = "sync"
	AsyncResponse ResponseType = "async"
	ErrorResponse ResponseType = "error"
)

// ResponseRaw is the envelope of all answers, with metadata of any type, as the
// server writes it. All seven keys are always there, in this order.
type ResponseRaw struct {
	Type       ResponseType `json:"type" yaml:"type"`
	Status     string       `json:"status" yaml:"status"`
	StatusCode int          `json:"status_code" yaml:"status_code"`
	Operation  string       `json:"operation" yaml:"operation"`
	Code       int          `json:"error_code" yaml:"error_code"`
	Error      string       `json:"error" yaml:"error"`
	Metadata   any          `json:"metadata" yaml:"metadata"`
}

// Response is the same envelope as the client reads it: the metadata stays
// undecoded until its type is known.
type Response struct {
	Type       ResponseType    `json:"type" yaml:"type"`
	Status     string          `json:"status" yaml:"status"`
	StatusCode int             `json:"status_code" yaml:"status_code"`
	Operation  string          `json:"operation" yaml:"operation"`
	Code       int             `json:"error_code" yaml:"error_code"`
	Error      string          `json:"error" yaml:"error"`
	Metadata   json.RawMessage `json:"metadata" yaml:"metadata"`
}

// MetadataAsStruct decodes the metadata.
func (r *Response) MetadataAsStruct(target any) error { return json.Unmarshal(r.Metadata, target) }

// MetadataAsMap decodes the metadata of an answer whose type does not matter.
func (r *Response) MetadataAsMap() (map[string]any, error) {
	var m map[string]any
	return m, r.MetadataAsStruct(&m)
}

// MetadataAsStringSlice decodes a list of URLs.
func (r *Response) MetadataAsStringSlice() ([]string, error) {
	var s []string
	return s, r.MetadataAsStruct(&s)
}

// MetadataAsOperation decodes the metadata of an async answer.
func (r *Response) MetadataAsOperation() (*Operation, error) {
	var op Operation
	if err := r.MetadataAsStruct(&op); err != nil {
		return nil, err
	}
	return &op, nil
}

// StatusError is an error that a server answered, with its HTTP status.
type StatusError struct {
	code int
	text string
}

// StatusErrorf builds the error for an HTTP status. An empty text becomes the
// usual one for the status.
func StatusErrorf(code int, text string) StatusError {
	if text == "" {
		text = http.StatusText(code)
	}
	return StatusError{code: code, text: text}
}

func (e StatusError) Error() string { return e.text }

// Status returns the HTTP status.
func (e StatusError) Status() int { return e.code }
