package clienttest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/gorilla/websocket"

	"sett/shared/api"
	"sett/shared/ws"
)

// Command is what a command in an instance does: what comes in on stdin goes out
// on stdout, behind Stdout.
type Command struct {
	Stdout, Stderr string
	Code           int
	Err            string // the operation fails with it
	// Control gets the messages of the control socket, if it is not nil.
	Control chan<- string
	// Brief commands read nothing, and end before the control socket comes.
	Brief bool
}

// Exec plays commands in an instance; the first word of the command line picks
// which.
func (s *Server) Exec(instance string, commands map[string]Command) {
	s.Handle("POST /1.0/instances/"+instance+"/exec", func(w http.ResponseWriter, r *http.Request) {
		var req api.InstanceExecPost
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil || len(req.Command) == 0 {
			fail(w, http.StatusBadRequest, "The request is not understood")
			return
		}
		s.play(w, req, commands[req.Command[0]])
	})
}

// play answers with a running operation and serves its websockets.
func (s *Server) play(w http.ResponseWriter, req api.InstanceExecPost, cmd Command) {
	fds := map[string]any{"0": "s0", "1": "s1", "2": "s2", "control": "sc"}
	if req.Interactive {
		fds = map[string]any{"0": "s0", "control": "sc"}
	}
	op := s.file(api.Operation{Class: "websocket", StatusCode: api.Running, Metadata: map[string]any{"fds": fds}})
	var once sync.Once
	ended := make(chan struct{})
	end := func() { once.Do(func() { s.end(op, cmd); close(ended) }) }

	open := func(secret string, serve func(c *ws.Conn)) {
		s.Handle("GET /1.0/operations/"+op.ID+"/websocket?secret="+secret, func(w http.ResponseWriter, r *http.Request) {
			up := websocket.Upgrader{}
			c, err := up.Upgrade(w, r, nil)
			if err != nil {
				return
			}
			serve(ws.New(c))
		})
	}
	stdin := make(chan []byte, 1)
	open("s0", func(c *ws.Conn) {
		var in bytes.Buffer
		_ = c.Receive(&in)
		if req.Interactive {
			_ = c.Send(io.MultiReader(strings.NewReader(cmd.Stdout), &in))
			end()
		} else {
			stdin <- in.Bytes()
		}
		_ = c.Close()
	})
	open("s1", func(c *ws.Conn) {
		var in []byte
		if !cmd.Brief {
			in = <-stdin
		}
		_ = c.Send(io.MultiReader(strings.NewReader(cmd.Stdout), bytes.NewReader(in)))
		_ = c.Close()
		end()
	})
	open("s2", func(c *ws.Conn) {
		_ = c.Send(strings.NewReader(cmd.Stderr))
		_ = c.Close()
	})
	if cmd.Brief {
		s.Handle("GET /1.0/operations/"+op.ID+"/websocket?secret=sc", func(w http.ResponseWriter, r *http.Request) {
			<-ended
			fail(w, http.StatusBadRequest, "The operation is over")
		})
		s.reply(w, op)
		return
	}
	open("sc", func(c *ws.Conn) {
		for {
			_, b, err := c.ReadMessage()
			if err != nil {
				return
			}
			if cmd.Control != nil {
				cmd.Control <- strings.TrimSpace(string(b))
			}
		}
	})
	s.reply(w, op)
}

// file gives an operation its id and remembers it.
func (s *Server) file(op api.Operation) api.Operation {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	op.ID, op.Status, op.CreatedAt, op.UpdatedAt, op.Location = opID(s.next), op.StatusCode.String(), Time(), Time(), "none"
	s.ops[op.ID] = op
	return op
}

func (s *Server) end(op api.Operation, cmd Command) {
	op.StatusCode = api.Success
	if cmd.Err != "" {
		op.StatusCode, op.Err = api.Failure, cmd.Err
	}
	op.Status, op.Metadata = op.StatusCode.String(), map[string]any{"return": cmd.Code}
	b, _ := json.Marshal(op)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops[op.ID] = op
	for _, c := range s.events {
		_ = c.WriteJSON(api.Event{Type: api.EventTypeOperation, Timestamp: Time(), Metadata: b})
	}
}
