package api

// ProfilePut holds what can be changed about a profile.
type ProfilePut struct {
	Config      map[string]string            `json:"config" yaml:"config"`
	Description string                       `json:"description" yaml:"description"`
	Devices     map[string]map[string]string `json:"devices" yaml:"devices"`
}

// ProfilesPost asks for a new profile.
type ProfilesPost struct {
	ProfilePut `yaml:",inline"`

	Name string `json:"name" yaml:"name"`
}

// ProfilePost renames a profile.
type ProfilePost struct {
	Name string `json:"name" yaml:"name"`
}

// Profile is config and devices that instances share.
type Profile struct {
	ProfilePut `yaml:",inline"`

	Name   string   `json:"name" yaml:"name"`
	UsedBy []string `json:"used_by" yaml:"used_by"`
}

// Writable returns the part of a profile that PUT and PATCH take.
func (p *Profile) Writable() ProfilePut { return p.ProfilePut }
