package api

// InstanceStatePut asks for another state of an instance.
type InstanceStatePut struct {
	// "start", "stop", "restart", "freeze" or "unfreeze".
	Action string `json:"action" yaml:"action"`
	// Seconds until the action fails; -1 waits for ever.
	Timeout  int  `json:"timeout" yaml:"timeout"`
	Force    bool `json:"force" yaml:"force"`
	Stateful bool `json:"stateful" yaml:"stateful"`
}

// InstanceState is what an instance is doing now.
type InstanceState struct {
	Status     string                          `json:"status" yaml:"status"`
	StatusCode StatusCode                      `json:"status_code" yaml:"status_code"`
	Disk       map[string]InstanceStateDisk    `json:"disk" yaml:"disk"`
	Memory     InstanceStateMemory             `json:"memory" yaml:"memory"`
	Network    map[string]InstanceStateNetwork `json:"network" yaml:"network"`
	Pid        int64                           `json:"pid" yaml:"pid"`
	// -1 where it is not known.
	Processes int64            `json:"processes" yaml:"processes"`
	CPU       InstanceStateCPU `json:"cpu" yaml:"cpu"`
}

// InstanceStateDisk tells how much a disk device uses.
type InstanceStateDisk struct {
	// Bytes.
	Usage int64 `json:"usage" yaml:"usage"`
}

// InstanceStateCPU tells how much processor time was used.
type InstanceStateCPU struct {
	// Nanoseconds.
	Usage int64 `json:"usage" yaml:"usage"`
}

// InstanceStateMemory tells how much memory is used, in bytes.
type InstanceStateMemory struct {
	Usage         int64 `json:"usage" yaml:"usage"`
	UsagePeak     int64 `json:"usage_peak" yaml:"usage_peak"`
	SwapUsage     int64 `json:"swap_usage" yaml:"swap_usage"`
	SwapUsagePeak int64 `json:"swap_usage_peak" yaml:"swap_usage_peak"`
}

// InstanceStateNetwork is one network interface of an instance.
type InstanceStateNetwork struct {
	Addresses []InstanceStateNetworkAddress `json:"addresses" yaml:"addresses"`
	Counters  InstanceStateNetworkCounters  `json:"counters" yaml:"counters"`
	Hwaddr    string                        `json:"hwaddr" yaml:"hwaddr"`
	HostName  string                        `json:"host_name" yaml:"host_name"`
	Mtu       int                           `json:"mtu" yaml:"mtu"`
	State     string                        `json:"state" yaml:"state"`
	Type      string                        `json:"type" yaml:"type"`
}

// InstanceStateNetworkAddress is one address of a network interface.
type InstanceStateNetworkAddress struct {
	Family  string `json:"family" yaml:"family"`
	Address string `json:"address" yaml:"address"`
	// Length of the prefix.
	Netmask string `json:"netmask" yaml:"netmask"`
	Scope   string `json:"scope" yaml:"scope"`
}

// InstanceStateNetworkCounters counts what went through a network interface, as the guest sees it.
type InstanceStateNetworkCounters struct {
	BytesReceived          int64 `json:"bytes_received" yaml:"bytes_received"`
	BytesSent              int64 `json:"bytes_sent" yaml:"bytes_sent"`
	PacketsReceived        int64 `json:"packets_received" yaml:"packets_received"`
	PacketsSent            int64 `json:"packets_sent" yaml:"packets_sent"`
	ErrorsReceived         int64 `json:"errors_received" yaml:"errors_received"`
	ErrorsSent             int64 `json:"errors_sent" yaml:"errors_sent"`
	PacketsDroppedOutbound int64 `json:"packets_dropped_outbound" yaml:"packets_dropped_outbound"`
	PacketsDroppedInbound  int64 `json:"packets_dropped_inbound" yaml:"packets_dropped_inbound"`
}
