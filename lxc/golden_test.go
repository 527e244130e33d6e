package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sett/client/clienttest"
	"sett/lxc/cli"
	"sett/shared/api"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden runs the command lines in testdata/golden against a server in this
// process. A line that begins with "$ " is a command line; "< " below it is its
// stdin. What follows is written by the test: stdout (1|), stderr (2|), requests
// that change something (>) and the exit code where it is not 0. To add a test,
// add a command line and run with -update; then read what it wrote.
func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/golden/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("%s differs:\n%s", file, firstDifference(string(want), got))
			}
		})
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	step := ""
	for i := range max(len(w), len(g)) {
		a, b := "(end)", "(end)"
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if strings.HasPrefix(a, "$ ") {
			step = a
		}
		if a != b {
			return fmt.Sprintf("line %d, after %s\nwant %s\ngot  %s", i+1, step, a, b)
		}
	}
	return ""
}

func runScript(t *testing.T, script string) string {
	t.Helper()
	s := clienttest.New(t)
	fixture(t, s)
	conf := t.TempDir()
	writeConf(t, conf, s.Socket)
	var out strings.Builder
	lines := strings.Split(script, "\n")
	for i := 0; i < len(lines); i++ {
		line, ok := strings.CutPrefix(lines[i], "$ lxc ")
		if !ok {
			if strings.HasPrefix(lines[i], "#") {
				fmt.Fprintln(&out, lines[i])
			}
			continue
		}
		fmt.Fprintln(&out, lines[i])
		var stdin strings.Builder
		for i+1 < len(lines) && strings.HasPrefix(lines[i+1], "< ") {
			i++
			fmt.Fprintln(&out, lines[i])
			fmt.Fprintln(&stdin, strings.TrimPrefix(lines[i], "< "))
		}
		args, err := cli.Words(strings.ReplaceAll(line, "SOCKETURL", "unix://"+s.Socket))
		if err != nil {
			t.Fatal(err)
		}
		run(t, &out, s, conf, args, stdin.String())
	}
	return out.String()
}

// run executes one command line and writes down what came of it.
func run(t *testing.T, out *strings.Builder, s *clienttest.Server, conf string, args []string, stdin string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	app := newApp()
	app.In, app.Out, app.Err = strings.NewReader(stdin), &stdout, &stderr
	app.Getenv = func(key string) string {
		return map[string]string{"LXD_CONF": conf, "LXD_GLOBAL_CONF": conf, "HOME": conf, "LXD_SOCKET": s.Socket, "TERM": "xterm"}[key]
	}
	code := app.Run(context.Background(), args)
	prefixed(out, "1|", strings.ReplaceAll(stdout.String(), s.Socket, "SOCKET"))
	prefixed(out, "2|", strings.ReplaceAll(stderr.String(), s.Socket, "SOCKET"))
	requests := s.Requests()
	if len(args) > 0 && args[0] == "stop" {
		// Instances stop side by side.
		slices.Sort(requests)
	}
	for _, r := range requests {
		prefixed(out, "> ", r)
	}
	if code != 0 {
		fmt.Fprintln(out, "exit", code)
	}
	fmt.Fprintln(out)
}

func prefixed(out *strings.Builder, prefix, text string) {
	if text == "" {
		return
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		fmt.Fprintln(out, prefix+line)
	}
}

func writeConf(t *testing.T, dir, socket string) {
	t.Helper()
	text := "default-remote: local\nremotes:\n  other: {addr: 'unix://" + socket + "'}\naliases: {}\n"
	if err := os.WriteFile(filepath.Join(dir, "config.yml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// fixture is the server that all golden files see.
func fixture(t *testing.T, s *clienttest.Server) {
	t.Helper()
	ok := api.Operation{}
	at := clienttest.Time()
	fp := strings.Repeat("0123456789abcdef", 4)

	s.Sync("POST /1.0/webui/links", api.WebUILink{Token: "Zm9v", URLs: []string{"http://127.70.1.2:4000/ui/"}, ExpiresAt: at})
	s.Sync("GET /1.0/webui/sessions?recursion=1", []api.WebUISession{{ID: "6f0c1a52-0000-0000-0000-000000000001", Protocol: "unix", Username: "root",
		Address: "127.0.0.1:50000", UserAgent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
		CreatedAt: at, ExpiresAt: at.Add(12 * time.Hour)}})
	s.Sync("DELETE /1.0/webui/sessions/6f0c1a52-0000-0000-0000-000000000001", nil)

	inst := func(name string, code api.StatusCode) api.Instance {
		return api.Instance{
			InstancePut: api.InstancePut{
				Architecture: "x86_64", Profiles: []string{"default"}, Devices: map[string]map[string]string{},
				Config: map[string]string{"user.a": "1", "image.os": "busybox", "volatile.base_image": fp},
			},
			CreatedAt: at, LastUsedAt: at, Name: name, Status: code.String(), StatusCode: code, Location: "none", Type: "container", Project: "default",
			ExpandedConfig: map[string]string{"user.a": "1", "image.os": "busybox", "volatile.base_image": fp, "limits.memory": "1GiB"},
			ExpandedDevices: map[string]map[string]string{
				"eth0": {"type": "nic", "name": "eth0", "network": "br0"}, "root": {"type": "disk", "path": "/", "pool": "default"},
			},
		}
	}
	c1, c2, c10 := inst("c1", api.Running), inst("c2", api.Stopped), inst("c10", api.Frozen)
	c10.Ephemeral = true
	state := api.InstanceState{
		Status: "Running", StatusCode: api.Running, Pid: 4242, Processes: 7, CPU: api.InstanceStateCPU{Usage: 12_300_000_000},
		Memory: api.InstanceStateMemory{Usage: 100 << 20, UsagePeak: 120 << 20}, Disk: map[string]api.InstanceStateDisk{"root": {Usage: 5 << 20}},
		Network: map[string]api.InstanceStateNetwork{
			"eth0": {
				Type: "broadcast", State: "up", HostName: "veth1", Hwaddr: "00:16:3e:00:00:01", Mtu: 1500,
				Addresses: []api.InstanceStateNetworkAddress{
					{Family: "inet", Address: "10.0.0.7", Netmask: "24", Scope: "global"},
					{Family: "inet6", Address: "fd42::7", Netmask: "64", Scope: "global"},
					{Family: "inet6", Address: "fe80::7", Netmask: "64", Scope: "link"},
				},
				Counters: api.InstanceStateNetworkCounters{BytesReceived: 2000, BytesSent: 3_500_000, PacketsReceived: 4, PacketsSent: 5},
			},
			"lo": {Type: "loopback", State: "up", Mtu: 65536, Addresses: []api.InstanceStateNetworkAddress{{Family: "inet", Address: "127.0.0.1", Netmask: "8", Scope: "local"}}},
		},
	}
	snap := api.InstanceSnapshot{Name: "s0", CreatedAt: at, Architecture: "x86_64", Config: map[string]string{}, Devices: map[string]map[string]string{}, Profiles: []string{"default"}, Size: -1}
	full := []api.InstanceFull{
		{Instance: c10, State: &state},
		{Instance: c1, State: &state, Snapshots: []api.InstanceSnapshot{snap}},
		{Instance: c2, State: &api.InstanceState{Status: "Stopped", StatusCode: api.Stopped}},
	}
	s.Sync("GET /1.0/instances?recursion=2", full)
	s.Sync("GET /1.0/instances?all-projects=true&recursion=2", full)
	s.Sync("GET /1.0/instances", []string{"/1.0/instances/c1", "/1.0/instances/c2", "/1.0/instances/c10"})
	s.Sync("GET /1.0/instances?project=p1", []string{"/1.0/instances/web?project=p1"})
	s.Sync("GET /1.0/profiles", []string{"/1.0/profiles/default", "/1.0/profiles/big"})
	s.Sync("GET /1.0/instances?recursion=1", []api.Instance{c10, c1, c2})
	for _, f := range full {
		p := "/1.0/instances/" + f.Name
		s.Sync("GET "+p, f.Instance)
		s.Sync("GET "+p+"?recursion=1", f)
		s.Async("PUT "+p, ok)
		s.Async("POST "+p, ok)
		s.Async("DELETE "+p, ok)
		s.Async("PUT "+p+"/state", ok)
		s.Async("POST "+p+"/rebuild", ok)
		s.Sync("GET "+p+"/state", f.State)
		s.Sync("GET "+p+"/metadata/templates", []string{"hosts.tpl", "hostname.tpl"})
		s.Sync("POST "+p+"/metadata/templates?path=a.tpl", nil)
		s.Sync("DELETE "+p+"/metadata/templates?path=a.tpl", nil)
		s.Sync("GET "+p+"/metadata", api.ImageMetadata{Architecture: "x86_64", CreationDate: 1, Properties: map[string]string{"os": "busybox"}})
	}
	s.Async("PUT /1.0/instances/c10/state", api.Operation{StatusCode: api.Failure, Err: "The shutdown timed out"})
	s.Sync("GET /1.0/instances/c1/snapshots/s0", snap)
	s.Async("DELETE /1.0/instances/c1/snapshots/s0", ok)
	s.Async("POST /1.0/instances/c1/snapshots/s0", ok)
	s.Async("POST /1.0/instances/c1/snapshots", ok)
	verdicts := []api.InstanceSnapshotVerdict{{Name: "s1", CreatedAt: at, Keep: true, Reasons: []string{"hourly", "daily"}}, {Name: "s0", CreatedAt: at}}
	s.Sync("GET /1.0/instances/c1/retention", verdicts)
	s.Sync("GET /1.0/instances/c1/retention?policy=daily%3D1", verdicts[:1])
	s.Fail("GET /1.0/instances/c1/snapshots/fresh", 404, "Snapshot not found")
	for _, p := range []string{"/1.0/instances/nope", "/1.0/instances/nope?recursion=1"} {
		s.Fail("GET "+p, 404, "Instance not found")
	}
	s.Exec("c1", map[string]clienttest.Command{
		"cat": {}, "both": {Stdout: "out\n", Stderr: "err\n"}, "three": {Code: 3},
		"missing": {Code: 127, Err: "Command not found"}, "killed": {Code: 137},
	})
	s.Fail("POST /1.0/instances/c2/exec", 400, "Instance is not running")
	s.Fail("PUT /1.0/instances/nope/state", 404, "Instance not found")
	s.Async("POST /1.0/instances", api.Operation{Resources: map[string][]string{"instances": {"/1.0/instances/c1"}}})
	s.Async("POST /1.0/instances?project=p1", ok)

	prof := api.Profile{Name: "default", UsedBy: []string{"/1.0/instances/c1"}, ProfilePut: api.ProfilePut{
		Description: "Default profile", Config: map[string]string{"limits.cpu": "1"},
		Devices: map[string]map[string]string{"eth0": {"type": "nic", "network": "br0"}, "root": {"type": "disk", "path": "/", "pool": "default"}},
	}}
	big := api.Profile{Name: "big", UsedBy: []string{}, ProfilePut: api.ProfilePut{Config: map[string]string{}, Devices: map[string]map[string]string{}}}
	object(s, "/1.0/profiles", map[string]any{"default": prof, "big": big}, []api.Profile{prof, big})
	s.Fail("GET /1.0/profiles/nope", 404, "Profile not found")

	br0 := api.Network{Name: "br0", Type: "bridge", Managed: true, Status: "Created", Locations: []string{"none"}, UsedBy: []string{"/1.0/profiles/default", "/1.0/instances/c1"},
		NetworkPut: api.NetworkPut{Config: map[string]string{"ipv4.address": "10.0.0.1/24", "ipv6.address": "none"}}}
	eth0 := api.Network{Name: "eth0", Type: "physical", NetworkPut: api.NetworkPut{Config: map[string]string{}}}
	lo := api.Network{Name: "lo", Type: "loopback"}
	object(s, "/1.0/networks", map[string]any{"br0": br0, "eth0": eth0}, []api.Network{lo, eth0, br0})
	s.Fail("GET /1.0/networks/nope", 404, "Network not found")
	s.Sync("GET /1.0/networks/br0/leases", []api.NetworkLease{{Hostname: "c1", Hwaddr: "00:16:3e:00:00:01", Address: "10.0.0.7", Type: "dynamic"}})
	s.Sync("GET /1.0/networks/br0/state", api.NetworkState{Hwaddr: "00:16:3e:00:00:02", Mtu: 1500, State: "up", Type: "broadcast",
		Addresses: []api.NetworkStateAddress{{Family: "inet", Address: "10.0.0.1", Netmask: "24", Scope: "global"}},
		Counters:  api.NetworkStateCounters{BytesReceived: 1500, PacketsReceived: 2}, Bridge: &api.NetworkStateBridge{ID: "8000.00163e000002", ForwardDelay: 1500}})

	pool := api.StoragePool{Name: "default", Driver: "dir", Status: "Created", Locations: []string{"none"},
		UsedBy:         []string{"/1.0/profiles/default", "/1.0/instances/c1", "/1.0/storage-pools/default/volumes/custom/v1?project=p1"},
		StoragePoolPut: api.StoragePoolPut{Config: map[string]string{"source": "/var/lib/lxd/storage-pools/default"}}}
	object(s, "/1.0/storage-pools", map[string]any{"default": pool}, []api.StoragePool{pool})
	s.Sync("GET /1.0/storage-pools/default/resources", api.ResourcesStoragePool{Space: api.ResourcesStoragePoolSpace{Used: 1 << 30, Total: 10 << 30}})
	s.Fail("GET /1.0/storage-pools/nope", 404, "Storage pool not found")

	img := api.Image{Fingerprint: fp, Architecture: "x86_64", Size: 1065288, Type: "container", Filename: "tiny.tar.gz", CreatedAt: at, UploadedAt: at,
		Aliases:  []api.ImageAlias{{Name: "tiny-long"}, {Name: "tiny", Description: "small one"}},
		ImagePut: api.ImagePut{Properties: map[string]string{"os": "busybox", "description": "busybox"}, Profiles: []string{"default"}}}
	s.Sync("GET /1.0/images?recursion=1", []api.Image{img})
	s.Sync("GET /1.0/images/"+fp, img)
	s.Sync("PUT /1.0/images/"+fp, nil)
	s.Async("DELETE /1.0/images/"+fp, ok)
	s.Async("POST /1.0/images", api.Operation{Metadata: map[string]any{"fingerprint": fp}})
	s.Fail("GET /1.0/images/nope", 404, "Image not found")
	s.Fail("DELETE /1.0/images/nope", 404, "Image not found")
	alias := api.ImageAliasesEntry{Name: "tiny", Type: "container", ImageAliasesEntryPut: api.ImageAliasesEntryPut{Target: fp}}
	object(s, "/1.0/images/aliases", map[string]any{"tiny": alias}, []api.ImageAliasesEntry{alias})

	run := api.Operation{ID: "8b2c0a6e-0000-0000-0000-000000000001", Class: "task", Description: "Starting instance", CreatedAt: at, Status: "Running", StatusCode: api.Running, MayCancel: true}
	token := api.Operation{ID: "8b2c0a6e-0000-0000-0000-000000000002", Class: "token", Status: "Running", StatusCode: api.Running, MayCancel: true, CreatedAt: at,
		Metadata: map[string]any{"secret": "5ec1e7", "fingerprint": fp, "addresses": []string{"10.0.0.1:8443"}, "request": map[string]any{"name": "laptop"}, "expiresAt": at}}
	s.Sync("GET /1.0/operations?recursion=1", map[string][]api.Operation{"running": {run, token}})
	s.Sync("GET /1.0/operations/"+run.ID, run)
	ended := at.Add(1234 * time.Millisecond)
	was := api.Operation{ID: "8b2c0a6e-0000-0000-0000-000000000003", Class: "task", Description: "Deleting instance", Status: "Failure", StatusCode: api.Failure,
		CreatedAt: at.Add(-time.Hour), UpdatedAt: ended, EndedAt: &ended, Err: "Rolled back, for the daemon ended while the operation ran: the instance is as it was before",
		Location: "none", Resources: map[string][]string{"instances": {"/1.0/instances/c1"}, "containers": {"/1.0/containers/c1"}},
		Requestor: &api.OperationRequestor{Username: strings.Repeat("ab", 32), Protocol: "tls", Address: "10.0.0.2:5000"},
		Log:       []api.OperationStep{{At: ended, Text: "Rolled back"}}}
	s.Sync("GET /1.0/operations?history=true&recursion=1", map[string][]api.Operation{"running": {run, token}, "failure": {was}})
	s.Sync("GET /1.0/operations?all-projects=true&history=true&recursion=1", map[string][]api.Operation{"failure": {was}})
	s.Sync("GET /1.0/operations?all-projects=true&recursion=1", map[string][]api.Operation{"running": {run}})
	s.Sync("GET /1.0/operations", map[string][]string{"running": {"/1.0/operations/" + run.ID}})
	s.Sync("GET /1.0/operations/"+was.ID, was)
	s.Sync("DELETE /1.0/operations/"+run.ID, nil)
	s.Sync("PUT /1.0", nil)
	trusted(t, s)
}

// trusted are the certificates and tokens of the server.
func trusted(t *testing.T, s *clienttest.Server) {
	t.Helper()
	text, err := os.ReadFile("testdata/client.crt")
	if err != nil {
		t.Fatal(err)
	}
	cert := api.Certificate{Fingerprint: strings.Repeat("aaaabbbbcccc", 5) + "aaaa", CertificatePut: api.CertificatePut{
		Name: "ci", Type: "client", Restricted: true, Projects: []string{"default", "web"}, Certificate: string(text)}}
	metrics := cert
	metrics.Fingerprint, metrics.Name, metrics.Type, metrics.Restricted, metrics.Projects = strings.Repeat("d", 64), "graphs", "metrics", false, []string{}
	s.Sync("GET /1.0/certificates?recursion=1", []api.Certificate{metrics, cert})
	for _, p := range []string{"/1.0/certificates/aaaabbbbcccc"} {
		s.Sync("GET "+p, cert)
		s.Sync("PUT "+p, nil)
		s.Sync("DELETE "+p, nil)
	}
	s.Fail("GET /1.0/certificates/ffff", 404, "Certificate not found")
	s.Fail("DELETE /1.0/certificates/ffff", 404, "Certificate not found")
	token := api.Operation{ID: "8b2c0a6e-0000-0000-0000-000000000002", Class: "token", Status: "Running", StatusCode: api.Running, MayCancel: true, CreatedAt: clienttest.Time(),
		Metadata: map[string]any{"secret": "5ec1e7", "fingerprint": cert.Fingerprint, "addresses": []string{"10.0.0.1:8443"}, "request": map[string]any{"name": "laptop"}}}
	s.Async("POST /1.0/certificates", token)
	s.Sync("DELETE /1.0/operations/"+token.ID, nil)
}

// object serves a list of objects and each of them, and takes all changes.
func object(s *clienttest.Server, path string, byName map[string]any, list any) {
	s.Sync("GET "+path+"?recursion=1", list)
	s.Sync("POST "+path, nil)
	for name, o := range byName {
		p := path + "/" + name
		s.Sync("GET "+p, o)
		for _, m := range []string{"PUT", "POST", "DELETE"} {
			s.Sync(m+" "+p, nil)
		}
	}
}

// TestServerThatDoesNotAnswerIsSaidSo: not that it lacks something, say.
func TestServerThatDoesNotAnswerIsSaidSo(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"list"}, {"list", "--all-projects", "--format", "json"}, {"rebuild", "debian", "c1"}, {"rebuild", "--empty", "c1"},
		{"copy", "c1", "c2", "--target", "m1"}, {"move", "c1", "--target", "m1"}, {"info", "--target", "m1"}, {"webui"}, {"operation", "list", "--all"},
		{"export", "c1"}, {"console", "c1"}, {"exec", "c1", "--", "true"}} {
		s := clienttest.New(t)
		s.Handle("GET /1.0", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusServiceUnavailable) })
		s.Handle("POST /1.0/instances/c1/exec", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusServiceUnavailable) })
		conf := t.TempDir()
		writeConf(t, conf, s.Socket)
		var out strings.Builder
		run(t, &out, s, conf, args, "")
		if !strings.Contains(out.String(), "Failed to fetch ") || !strings.Contains(out.String(), "503 ") {
			t.Errorf("lxc %s:\n%s", strings.Join(args, " "), &out)
		}
	}
}
