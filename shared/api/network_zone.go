package api

// NetworkZonePut holds what can be changed about a zone.
type NetworkZonePut struct {
	Description string            `json:"description" yaml:"description"`
	Config      map[string]string `json:"config" yaml:"config"`
}

// NetworkZonesPost asks for a new zone.
type NetworkZonesPost struct {
	NetworkZonePut `yaml:",inline"`

	Name string `json:"name" yaml:"name"`
}

// NetworkZone is a DNS zone.
type NetworkZone struct {
	NetworkZonePut `yaml:",inline"`

	Name   string   `json:"name" yaml:"name"`
	UsedBy []string `json:"used_by" yaml:"used_by"`
}

// NetworkZoneRecordPut holds what can be changed about a record.
type NetworkZoneRecordPut struct {
	Description string                   `json:"description" yaml:"description"`
	Entries     []NetworkZoneRecordEntry `json:"entries" yaml:"entries"`
	Config      map[string]string        `json:"config" yaml:"config"`
}

// NetworkZoneRecordsPost asks for a new record.
type NetworkZoneRecordsPost struct {
	NetworkZoneRecordPut `yaml:",inline"`

	Name string `json:"name" yaml:"name"`
}

// NetworkZoneRecord is a record of a zone.
type NetworkZoneRecord struct {
	NetworkZoneRecordPut `yaml:",inline"`

	Name string `json:"name" yaml:"name"`
}

// NetworkZoneRecordEntry is one value of a record.
type NetworkZoneRecordEntry struct {
	Type  string `json:"type" yaml:"type"`
	TTL   uint64 `json:"ttl,omitempty" yaml:"ttl,omitempty"`
	Value string `json:"value" yaml:"value"`
}

// Writable returns the part of a zone that PUT and PATCH take.
func (z *NetworkZone) Writable() NetworkZonePut { return z.NetworkZonePut }

// Writable returns the part of a record that PUT and PATCH take.
func (r *NetworkZoneRecord) Writable() NetworkZoneRecordPut { return r.NetworkZoneRecordPut }
