package instance

import (
	"sett/shared/api"
	"sett/shared/errs"
)

// State is where an instance stands.
type State int

// The states of an instance.
const (
	Stopped State = iota
	Starting
	Running
	Freezing
	Frozen
	Stopping
	Errored
)

var stateCodes = [...]api.StatusCode{
	Stopped: api.Stopped, Starting: api.Starting, Running: api.Running, Freezing: api.Freezing,
	Frozen: api.Frozen, Stopping: api.Stopping, Errored: api.Error,
}

// Code is the state as the API numbers it.
func (s State) Code() api.StatusCode { return stateCodes[s] }

func (s State) String() string { return s.Code().String() }

// next is the state machine: where each state may lead.
var next = map[State][]State{
	Stopped:  {Starting, Errored},
	Starting: {Running, Stopped, Errored},
	Running:  {Freezing, Stopping, Stopped, Errored},
	Freezing: {Frozen, Running, Stopping, Stopped, Errored},
	Frozen:   {Running, Stopping, Stopped, Errored},
	Stopping: {Stopped, Running, Frozen, Errored},
	Errored:  {Stopped, Running, Stopping, Frozen},
}

// may reports whether one state can follow another.
func may(from, to State) bool {
	for _, s := range next[from] {
		if s == to {
			return true
		}
	}
	return false
}

// alive reports whether the instance has processes.
func (s State) alive() bool { return s != Stopped && s != Errored && s != Starting }

// require refuses an action in the wrong state with an error that names both.
func require(name, action string, have State, want ...State) error {
	for _, w := range want {
		if have == w {
			return nil
		}
	}
	switch {
	case action == "start" && have == Running:
		return errs.Invalid("The instance is already running")
	case action == "start" && have == Frozen:
		return errs.Invalid("The instance is frozen; use restart or unfreeze")
	case have == Stopped && action == "stop":
		return errs.Invalid("The instance is already stopped")
	case have == Stopped:
		return errs.Invalid("The instance is not running")
	case action == "freeze" && have == Frozen:
		return errs.Invalid("The instance is already frozen")
	case action == "unfreeze" && have == Running:
		return errs.Invalid("The instance is not frozen")
	}
	return errs.Invalid("Cannot %s instance %q while it is %s", action, name, have)
}
