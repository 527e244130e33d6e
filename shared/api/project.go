package api

// ProjectPut holds what can be changed about a project.
type ProjectPut struct {
	Config      map[string]string `json:"config" yaml:"config"`
	Description string            `json:"description" yaml:"description"`
}

// ProjectsPost asks for a new project.
type ProjectsPost struct {
	ProjectPut `yaml:",inline"`

	Name string `json:"name" yaml:"name"`
}

// ProjectPost renames a project.
type ProjectPost struct {
	Name string `json:"name" yaml:"name"`
}

// Project is a space of names with features and limits.
type Project struct {
	ProjectPut `yaml:",inline"`

	Name   string   `json:"name" yaml:"name"`
	UsedBy []string `json:"used_by" yaml:"used_by"`
}

// ProjectState tells how much of its limits a project uses.
type ProjectState struct {
	Resources map[string]ProjectStateResource `json:"resources" yaml:"resources"`
}

// ProjectStateResource is the use of one limit. Its keys have capital letters on the wire.
type ProjectStateResource struct {
	// -1: no limit.
	Limit int64 `json:"Limit" yaml:"Limit"`
	Usage int64 `json:"Usage" yaml:"Usage"`
}

// Writable returns the part of a project that PUT and PATCH take.
func (p *Project) Writable() ProjectPut { return p.ProjectPut }
