package relay

import (
	"encoding/json"
	"net/http"
	"strings"

	"sett/lxd/auth"
)

// headers begin all that members say to each other about a relayed request. From
// anybody else such headers are dropped.
const headers = "X-Lxd-Forwarded-"

const (
	headerCaller  = headers + "Caller"
	headerRequest = headers + "Request"
	// headerElsewhere stands in answers; see Refuse.
	headerElsewhere = headers + "Elsewhere"
)

// Identity is who stands behind a relayed request, and the id under which the first
// member has it in its log.
type Identity struct {
	Caller  auth.Caller
	Request string
}

// Mark writes an identity into the headers of a request.
func (i Identity) Mark(h http.Header) {
	Strip(h)
	b, err := json.Marshal(i.Caller)
	if err != nil { // strings and booleans always marshal
		panic(err)
	}
	h.Set(headerCaller, string(b))
	h.Set(headerRequest, i.Request)
}

// Read finds the identity in a request that a member has sent. ok is false for what
// the member asks by itself.
func Read(h http.Header) (i Identity, ok bool, err error) {
	text := h.Get(headerCaller)
	if text == "" {
		return i, false, nil
	}
	if err := json.Unmarshal([]byte(text), &i.Caller); err != nil {
		return i, false, err
	}
	i.Request = h.Get(headerRequest)
	return i, true, nil
}

// Sent reports whether a request says that a member has sent it on, which anybody may say.
func Sent(h http.Header) bool { return h.Get(headerCaller) != "" }

// Refuse marks the answer to a relayed request as that of a member which has done nothing:
// it does not have what the request is about, or takes no requests.
func Refuse(h http.Header) { h.Set(headerElsewhere, "yes") }

// Strip drops what a client may not say.
func Strip(h http.Header) {
	for k := range h {
		if len(k) >= len(headers) && strings.EqualFold(k[:len(headers)], headers) {
			delete(h, k)
		}
	}
}
