package api

// NetworkACLRule is one rule of an access list.
type NetworkACLRule struct {
	Action          string `json:"action" yaml:"action"`
	Source          string `json:"source,omitempty" yaml:"source,omitempty"`
	Destination     string `json:"destination,omitempty" yaml:"destination,omitempty"`
	Protocol        string `json:"protocol,omitempty" yaml:"protocol,omitempty"`
	SourcePort      string `json:"source_port,omitempty" yaml:"source_port,omitempty"`
	DestinationPort string `json:"destination_port,omitempty" yaml:"destination_port,omitempty"`
	ICMPType        string `json:"icmp_type,omitempty" yaml:"icmp_type,omitempty"`
	ICMPCode        string `json:"icmp_code,omitempty" yaml:"icmp_code,omitempty"`
	Description     string `json:"description,omitempty" yaml:"description,omitempty"`
	State           string `json:"state" yaml:"state"`
}

// NetworkACLPost renames an access list.
type NetworkACLPost struct {
	Name string `json:"name" yaml:"name"`
}

// NetworkACLPut holds what can be changed about an access list.
type NetworkACLPut struct {
	Description string            `json:"description" yaml:"description"`
	Egress      []NetworkACLRule  `json:"egress" yaml:"egress"`
	Ingress     []NetworkACLRule  `json:"ingress" yaml:"ingress"`
	Config      map[string]string `json:"config" yaml:"config"`
}

// NetworkACL is an access list.
type NetworkACL struct {
	NetworkACLPost `yaml:",inline"`

	NetworkACLPut `yaml:",inline"`

	UsedBy []string `json:"used_by" yaml:"used_by"`
}

// NetworkACLsPost asks for a new access list.
type NetworkACLsPost struct {
	NetworkACLPost `yaml:",inline"`

	NetworkACLPut `yaml:",inline"`
}

// Writable returns the part of an access list that PUT and PATCH take.
func (a *NetworkACL) Writable() NetworkACLPut { return a.NetworkACLPut }
