package api

// NetworkLoadBalancerBackend is one target of a load balancer.
type NetworkLoadBalancerBackend struct {
	Name          string `json:"name" yaml:"name"`
	Description   string `json:"description" yaml:"description"`
	TargetPort    string `json:"target_port" yaml:"target_port"`
	TargetAddress string `json:"target_address" yaml:"target_address"`
}

// NetworkLoadBalancerPort is one range of ports of a load balancer.
type NetworkLoadBalancerPort struct {
	Description   string   `json:"description" yaml:"description"`
	Protocol      string   `json:"protocol" yaml:"protocol"`
	ListenPort    string   `json:"listen_port" yaml:"listen_port"`
	TargetBackend []string `json:"target_backend" yaml:"target_backend"`
}

// NetworkLoadBalancerPut holds what can be changed about a load balancer.
type NetworkLoadBalancerPut struct {
	Description string                       `json:"description" yaml:"description"`
	Config      map[string]string            `json:"config" yaml:"config"`
	Backends    []NetworkLoadBalancerBackend `json:"backends" yaml:"backends"`
	Ports       []NetworkLoadBalancerPort    `json:"ports" yaml:"ports"`
}

// NetworkLoadBalancersPost asks for a new load balancer.
type NetworkLoadBalancersPost struct {
	NetworkLoadBalancerPut `yaml:",inline"`

	ListenAddress string `json:"listen_address" yaml:"listen_address"`
}

// NetworkLoadBalancer is an outside address whose ports are spread over backends.
type NetworkLoadBalancer struct {
	NetworkLoadBalancerPut `yaml:",inline"`

	ListenAddress string `json:"listen_address" yaml:"listen_address"`
	Location      string `json:"location" yaml:"location"`
}

// Writable returns the part of a load balancer that PUT and PATCH take.
func (l *NetworkLoadBalancer) Writable() NetworkLoadBalancerPut { return l.NetworkLoadBalancerPut }
