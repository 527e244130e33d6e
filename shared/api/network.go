package api

// NetworkPut holds what can be changed about a network.
type NetworkPut struct {
	Config      map[string]string `json:"config" yaml:"config"`
	Description string            `json:"description" yaml:"description"`
}

// NetworksPost asks for a new network.
type NetworksPost struct {
	NetworkPut `yaml:",inline"`

	Name string `json:"name" yaml:"name"`
	Type string `json:"type" yaml:"type"`
}

// NetworkPost renames a network.
type NetworkPost struct {
	Name string `json:"name" yaml:"name"`
}

// Network is a network; those that nobody manages are plain interfaces of the host.
type Network struct {
	NetworkPut `yaml:",inline"`

	Name      string   `json:"name" yaml:"name"`
	Type      string   `json:"type" yaml:"type"`
	UsedBy    []string `json:"used_by" yaml:"used_by"`
	Managed   bool     `json:"managed" yaml:"managed"`
	Status    string   `json:"status" yaml:"status"`
	Locations []string `json:"locations" yaml:"locations"`
}

// NetworkLease is an address that a network gave away.
type NetworkLease struct {
	Hostname string `json:"hostname" yaml:"hostname"`
	Hwaddr   string `json:"hwaddr" yaml:"hwaddr"`
	Address  string `json:"address" yaml:"address"`
	// "static", "dynamic", "gateway" or "uplink".
	Type     string `json:"type" yaml:"type"`
	Location string `json:"location" yaml:"location"`
}

// Statuses of networks.
const (
	NetworkStatusPending     = "Pending"
	NetworkStatusCreated     = "Created"
	NetworkStatusErrored     = "Errored"
	NetworkStatusUnknown     = "Unknown"
	NetworkStatusUnavailable = "Unavailable"
)

// Writable returns the part of a network that PUT and PATCH take.
func (n *Network) Writable() NetworkPut { return n.NetworkPut }
