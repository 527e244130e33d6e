package api

// InstanceExecPost asks to run a command in an instance. Three of its keys have dashes or underscores for historic reasons.
type InstanceExecPost struct {
	Command   []string `json:"command" yaml:"command"`
	WaitForWS bool     `json:"wait-for-websocket" yaml:"wait-for-websocket"`
	// Gives the command a pseudo terminal.
	Interactive  bool              `json:"interactive" yaml:"interactive"`
	Environment  map[string]string `json:"environment" yaml:"environment"`
	Width        int               `json:"width" yaml:"width"`
	Height       int               `json:"height" yaml:"height"`
	RecordOutput bool              `json:"record-output" yaml:"record-output"`
	User         uint32            `json:"user" yaml:"user"`
	Group        uint32            `json:"group" yaml:"group"`
	Cwd          string            `json:"cwd" yaml:"cwd"`
}

// InstanceExecControl is a message on the control socket of a running command.
type InstanceExecControl struct {
	// "window-resize" or "signal".
	Command string            `json:"command" yaml:"command"`
	Args    map[string]string `json:"args" yaml:"args"`
	Signal  int               `json:"signal" yaml:"signal"`
}

// InstanceConsolePost asks for the console of an instance.
type InstanceConsolePost struct {
	Width  int `json:"width" yaml:"width"`
	Height int `json:"height" yaml:"height"`
	// "console" or "vga".
	Type string `json:"type" yaml:"type"`
	// Takes the console over from another client.
	Force bool `json:"force" yaml:"force"`
}

// InstanceConsoleControl is a message on the control socket of a console.
type InstanceConsoleControl struct {
	Command string            `json:"command" yaml:"command"`
	Args    map[string]string `json:"args" yaml:"args"`
}
