package api

// NetworkForwardPort is one range of ports of a forward.
type NetworkForwardPort struct {
	Description   string `json:"description" yaml:"description"`
	Protocol      string `json:"protocol" yaml:"protocol"`
	ListenPort    string `json:"listen_port" yaml:"listen_port"`
	TargetPort    string `json:"target_port" yaml:"target_port"`
	TargetAddress string `json:"target_address" yaml:"target_address"`
}

// NetworkForwardPut holds what can be changed about a forward.
type NetworkForwardPut struct {
	Description string               `json:"description" yaml:"description"`
	Config      map[string]string    `json:"config" yaml:"config"`
	Ports       []NetworkForwardPort `json:"ports" yaml:"ports"`
}

// NetworkForwardsPost asks for a new forward.
type NetworkForwardsPost struct {
	NetworkForwardPut `yaml:",inline"`

	ListenAddress string `json:"listen_address" yaml:"listen_address"`
}

// NetworkForward is an outside address whose ports lead to instances.
type NetworkForward struct {
	NetworkForwardPut `yaml:",inline"`

	ListenAddress string `json:"listen_address" yaml:"listen_address"`
	Location      string `json:"location" yaml:"location"`
}

// Writable returns the part of a forward that PUT and PATCH take.
func (f *NetworkForward) Writable() NetworkForwardPut { return f.NetworkForwardPut }
