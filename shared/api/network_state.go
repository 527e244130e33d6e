package api

// NetworkState is what the kernel tells about an interface.
type NetworkState struct {
	Addresses []NetworkStateAddress `json:"addresses" yaml:"addresses"`
	Counters  NetworkStateCounters  `json:"counters" yaml:"counters"`
	Hwaddr    string                `json:"hwaddr" yaml:"hwaddr"`
	Mtu       int                   `json:"mtu" yaml:"mtu"`
	State     string                `json:"state" yaml:"state"`
	Type      string                `json:"type" yaml:"type"`
	Bond      *NetworkStateBond     `json:"bond" yaml:"bond"`
	Bridge    *NetworkStateBridge   `json:"bridge" yaml:"bridge"`
	VLAN      *NetworkStateVLAN     `json:"vlan" yaml:"vlan"`
	OVN       *NetworkStateOVN      `json:"ovn" yaml:"ovn"`
}

// NetworkStateAddress is one address of an interface.
type NetworkStateAddress struct {
	Family  string `json:"family" yaml:"family"`
	Address string `json:"address" yaml:"address"`
	// Length of the prefix.
	Netmask string `json:"netmask" yaml:"netmask"`
	Scope   string `json:"scope" yaml:"scope"`
}

// NetworkStateCounters counts what went through an interface.
type NetworkStateCounters struct {
	BytesReceived   int64 `json:"bytes_received" yaml:"bytes_received"`
	BytesSent       int64 `json:"bytes_sent" yaml:"bytes_sent"`
	PacketsReceived int64 `json:"packets_received" yaml:"packets_received"`
	PacketsSent     int64 `json:"packets_sent" yaml:"packets_sent"`
}

// NetworkStateBond is what only a bond has.
type NetworkStateBond struct {
	Mode           string   `json:"mode" yaml:"mode"`
	TransmitPolicy string   `json:"transmit_policy" yaml:"transmit_policy"`
	UpDelay        uint64   `json:"up_delay" yaml:"up_delay"`
	DownDelay      uint64   `json:"down_delay" yaml:"down_delay"`
	MIIFrequency   uint64   `json:"mii_frequency" yaml:"mii_frequency"`
	MIIState       string   `json:"mii_state" yaml:"mii_state"`
	LowerDevices   []string `json:"lower_devices" yaml:"lower_devices"`
}

// NetworkStateBridge is what only a bridge has.
type NetworkStateBridge struct {
	ID            string   `json:"id" yaml:"id"`
	STP           bool     `json:"stp" yaml:"stp"`
	ForwardDelay  uint64   `json:"forward_delay" yaml:"forward_delay"`
	VLANDefault   uint64   `json:"vlan_default" yaml:"vlan_default"`
	VLANFiltering bool     `json:"vlan_filtering" yaml:"vlan_filtering"`
	UpperDevices  []string `json:"upper_devices" yaml:"upper_devices"`
}

// NetworkStateVLAN is what only a VLAN has.
type NetworkStateVLAN struct {
	LowerDevice string `json:"lower_device" yaml:"lower_device"`
	VID         uint64 `json:"vid" yaml:"vid"`
}

// NetworkStateOVN is what only an OVN network has.
type NetworkStateOVN struct {
	Chassis string `json:"chassis" yaml:"chassis"`
}
