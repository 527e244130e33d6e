package api

// NetworkPeersPost asks for a new peering.
type NetworkPeersPost struct {
	NetworkPeerPut `yaml:",inline"`

	Name          string `json:"name" yaml:"name"`
	TargetProject string `json:"target_project" yaml:"target_project"`
	TargetNetwork string `json:"target_network" yaml:"target_network"`
}

// NetworkPeerPut holds what can be changed about a peering.
type NetworkPeerPut struct {
	Description string            `json:"description" yaml:"description"`
	Config      map[string]string `json:"config" yaml:"config"`
}

// NetworkPeer is a peering of two networks.
type NetworkPeer struct {
	NetworkPeerPut `yaml:",inline"`

	Name          string   `json:"name" yaml:"name"`
	TargetProject string   `json:"target_project" yaml:"target_project"`
	TargetNetwork string   `json:"target_network" yaml:"target_network"`
	Status        string   `json:"status" yaml:"status"`
	UsedBy        []string `json:"used_by" yaml:"used_by"`
}

// Writable returns the part of a peering that PUT and PATCH take.
func (p *NetworkPeer) Writable() NetworkPeerPut { return p.NetworkPeerPut }
