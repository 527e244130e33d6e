package api

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// The files in testdata are metadata as LXD 5.0.2 answers it: every key, its
// place, and null against empty must survive our structs byte for byte.
func TestAnswersKeepTheirBytes(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]any{
		"server":                   &Server{},
		"projects":                 &[]Project{},
		"project_state":            &ProjectState{},
		"profile":                  &Profile{},
		"network":                  &Network{},
		"network_leases":           &[]NetworkLease{},
		"network_state":            &NetworkState{},
		"storage_pool":             &StoragePool{},
		"storage_pool_resources":   &ResourcesStoragePool{},
		"storage_volume":           &StorageVolume{},
		"storage_volume_snapshots": &[]StorageVolumeSnapshot{},
		"images":                   &[]Image{},
		"image_aliases":            &[]ImageAliasesEntry{},
		"image_metadata":           &ImageMetadata{},
		"instance":                 &Instance{},
		"instances_full":           &[]InstanceFull{},
		"warnings":                 &[]Warning{},
		"cluster":                  &Cluster{},
		"resources":                &Resources{},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(filepath.Join("testdata", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			sameBytes(t, want, target)
		})
	}
}

func TestEventsKeepTheirBytes(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("testdata", "events.json"))
	if err != nil {
		t.Fatal(err)
	}
	payload := map[string]func() any{
		EventTypeOperation: func() any { return &Operation{} },
		EventTypeLifecycle: func() any { return &EventLifecycle{} },
	}
	for line := range bytes.Lines(b) {
		var e Event
		sameBytes(t, line, &e)
		sameBytes(t, e.Metadata, payload[e.Type]())
	}
}

func sameBytes(t *testing.T, want []byte, target any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(want))
	dec.DisallowUnknownFields()
	if err := dec.Decode(target); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(target); err != nil {
		t.Fatal(err)
	}
	if g, w := strings.TrimSpace(got.String()), strings.TrimSpace(string(want)); g != w {
		i := 0
		for i < len(g) && i < len(w) && g[i] == w[i] {
			i++
		}
		t.Errorf("differs at byte %d:\ngot  ...%.200s\nwant ...%.200s", i, g[i:], w[i:])
	}
}

func TestEnvelopeHasSevenKeysInOrder(t *testing.T) {
	t.Parallel()
	got, err := json.Marshal(ResponseRaw{Type: SyncResponse, Status: Success.String(), StatusCode: int(Success), Metadata: []string{"/1.0"}})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"type":"sync","status":"Success","status_code":200,"operation":"","error_code":0,"error":"","metadata":["/1.0"]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Every field that travels as JSON has a YAML key too, since commands show YAML.
// The keys are the same but for the quirks of init files and of storage drivers.
func TestYAMLKeysFollowJSON(t *testing.T) {
	t.Parallel()
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(ty reflect.Type) {
		switch ty.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(ty.Elem())
			return
		case reflect.Struct:
		default:
			return
		}
		if seen[ty] || ty.PkgPath() != reflect.TypeFor[Server]().PkgPath() {
			return
		}
		seen[ty] = true
		for i := range ty.NumField() {
			f := ty.Field(i)
			j, y := f.Tag.Get("json"), f.Tag.Get("yaml")
			quirk := ty == reflect.TypeFor[InitPreseed]() && f.Name == "Node" || ty == reflect.TypeFor[InitNetworksProjectPost]() && f.Name == "Project" ||
				ty == reflect.TypeFor[ServerStorageDriverInfo]()
			switch {
			case f.Anonymous && (j != "" || y != ",inline"):
				t.Errorf("%s.%s: an embedded struct is inline in both forms", ty, f.Name)
			case !f.Anonymous && !quirk && j != y:
				t.Errorf("%s.%s: json %q, yaml %q", ty, f.Name, j, y)
			}
			walk(f.Type)
		}
	}
	for _, v := range []any{
		Server{}, InitPreseed{}, Operation{}, Event{}, EventLogging{}, EventLifecycle{}, InstanceFull{}, InstancesPost{},
		InstancesPut{}, InstancePost{}, InstanceStatePut{}, InstanceExecPost{}, InstanceExecControl{}, InstanceConsolePost{},
		InstanceSnapshotsPost{}, InstanceSnapshotPost{}, InstanceBackupsPost{}, Profile{}, Project{}, ProjectState{},
		Certificate{}, CertificatesPost{}, CertificateAddToken{}, ClusterPut{}, ClusterMember{}, ClusterGroup{},
		ClusterMemberJoinToken{}, Image{}, ImagesPost{}, ImageAliasesPost{}, ImageMetadata{}, ImageExportPost{}, Network{}, NetworkState{},
		NetworkLease{}, NetworkACL{}, NetworkForward{}, NetworkLoadBalancer{}, NetworkPeer{}, NetworkZone{}, NetworkZoneRecord{},
		StoragePool{}, ResourcesStoragePool{}, StorageVolume{}, StorageVolumesPost{}, StorageVolumePost{}, StorageVolumeState{},
		StorageVolumeSnapshot{}, StoragePoolVolumeBackup{}, StorageBucket{}, StorageBucketKey{}, Warning{}, Resources{},
	} {
		walk(reflect.TypeOf(v))
	}
}

func TestStatusCodesGoBothWays(t *testing.T) {
	t.Parallel()
	for c := StatusCode(0); c < 500; c++ {
		if c.String() == "" {
			continue
		}
		if back, err := StatusCodeFromString(c.String()); err != nil || back != c {
			t.Errorf("%d: %q leads to %d, %v", c, c, back, err)
		}
	}
	if _, err := StatusCodeFromString("Asleep"); err == nil {
		t.Error("an unknown status has no code")
	}
	if Thawed.IsFinal() || !Cancelled.IsFinal() {
		t.Error("statuses are final from 200 on")
	}
}

func TestTokensAreReadFromOperations(t *testing.T) {
	t.Parallel()
	op := Operation{ID: "x", Metadata: map[string]any{
		"request": map[string]any{"name": "laptop"}, "secret": "s", "fingerprint": "f", "addresses": []any{"10.0.0.1:8443"},
	}}
	tok, err := op.ToCertificateAddToken()
	if err != nil {
		t.Fatal(err)
	}
	if tok.ClientName != "laptop" || tok.Secret != "s" || tok.Addresses[0] != "10.0.0.1:8443" || !tok.ExpiresAt.IsZero() {
		t.Errorf("got %+v", tok)
	}
	if _, err := op.ToClusterJoinToken(); err == nil || !strings.Contains(err.Error(), "serverName") {
		t.Errorf("a trust token is no join token: %v", err)
	}
	delete(op.Metadata, "secret")
	if _, err := op.ToCertificateAddToken(); err == nil || !strings.Contains(err.Error(), "secret") {
		t.Errorf("a token needs a secret: %v", err)
	}
}
