package api

// InitPreseed is the answer file of the first set-up.
type InitPreseed struct {
	// The keys of Node stand at the top of the YAML file, but below "Node" in JSON.
	Node    InitLocalPreseed    `json:"Node" yaml:",inline"`
	Cluster *InitClusterPreseed `json:"cluster" yaml:"cluster"`
}

// InitLocalPreseed is the part of the answer file that sets up one member.
type InitLocalPreseed struct {
	ServerPut `yaml:",inline"`

	Networks     []InitNetworksProjectPost `json:"networks" yaml:"networks"`
	StoragePools []StoragePoolsPost        `json:"storage_pools" yaml:"storage_pools"`
	Profiles     []ProfilesPost            `json:"profiles" yaml:"profiles"`
	Projects     []ProjectsPost            `json:"projects" yaml:"projects"`
}

// InitNetworksProjectPost is a network together with the project that it is made in.
type InitNetworksProjectPost struct {
	NetworksPost `yaml:",inline"`

	Project string `json:"Project" yaml:"project"` // Capital in JSON only.
}

// InitClusterPreseed is the part of the answer file that makes or joins a cluster.
type InitClusterPreseed struct {
	ClusterPut `yaml:",inline"`

	ClusterCertificatePath string `json:"cluster_certificate_path" yaml:"cluster_certificate_path"`
	ClusterToken           string `json:"cluster_token" yaml:"cluster_token"`
}
