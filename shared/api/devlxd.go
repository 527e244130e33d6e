package api

// DevLXDPut is what a guest can change over /dev/lxd.
type DevLXDPut struct {
	// "Ready" when the guest is usable, "Started" before.
	State string `json:"state" yaml:"state"`
}

// DevLXDGet is what a guest learns of itself over /dev/lxd.
type DevLXDGet struct {
	DevLXDPut `yaml:",inline"`

	APIVersion   string `json:"api_version" yaml:"api_version"`
	Location     string `json:"location" yaml:"location"`
	InstanceType string `json:"instance_type" yaml:"instance_type"`
}
