package daemontest_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sett/lxd/config"
	"sett/lxd/daemontest"
	"sett/lxd/device"
	"sett/lxd/device/nic"
	"sett/lxd/host/seccomp"
	"sett/lxd/instance"
	"sett/lxd/network/bridge"
	"sett/lxd/server"
	"sett/lxd/storage/btrfs"
	"sett/shared/api"
)

// built is what a daemon has to show for an API extension.
type built struct {
	routes                       map[string]bool
	instance, bridge, btrfs, nic config.Table
}

type proof func(b *built) bool

// route: a route stands for it.
func route(methodAndPath string) proof {
	return func(b *built) bool { return b.routes[methodAndPath] }
}

func key(table func(*built) config.Table, names ...string) proof {
	return func(b *built) bool {
		for _, n := range names {
			if i, ok := table(b).Lookup(n); !ok || i.Refused != "" {
				return false
			}
		}
		return true
	}
}

func instanceKey(names ...string) proof {
	return key(func(b *built) config.Table { return b.instance }, names...)
}
func serverKey(names ...string) proof {
	return key(func(*built) config.Table { return server.Keys() }, names...)
}
func bridgeKey(names ...string) proof {
	return key(func(b *built) config.Table { return b.bridge }, names...)
}
func nicKey(names ...string) proof {
	return key(func(b *built) config.Table { return b.nic }, names...)
}

// field: a field of an answer or a request stands for it.
func field(of any, names ...string) proof {
	return func(*built) bool {
		have := map[string]bool{}
		fields(reflect.TypeOf(of), func(name string, _ reflect.Type) { have[name] = true })
		for _, n := range names {
			if !have[n] {
				return false
			}
		}
		return true
	}
}

// shown: behaviour that a test of a package proves; there is no key or route to look for.
func shown(folder, test string) proof {
	return func(*built) bool {
		files, _ := filepath.Glob(filepath.Join("..", folder, "*_test.go"))
		return slices.ContainsFunc(files, func(name string) bool {
			text, err := os.ReadFile(name)
			return err == nil && strings.Contains(string(text), "\nfunc "+test+"(t *testing.T)")
		})
	}
}

// proofs say for every extension that this build announces what there is to show for it.
var proofs = map[string]proof{
	"cloud_init":                                     instanceKey("cloud-init.user-data", "cloud-init.vendor-data", "cloud-init.network-config"),
	"restrict_devlxd":                                instanceKey("security.devlxd"),
	"container_protection_shift":                     instanceKey("security.protection.shift"),
	"devlxd_events":                                  shown("daemontest", "TestGuestAPI"),
	"devlxd_images":                                  instanceKey("security.devlxd.images"),
	"instance_ready_state":                           field(api.DevLXDPut{}, "state"),
	"container_edit_metadata":                        route("PUT /1.0/instances/{name}/metadata"),
	"api_filtering":                                  shown("rest", "TestFilter"),
	"api_os":                                         field(api.ServerEnvironment{}, "os_name", "os_version"),
	"certificate_project":                            field(api.Certificate{}, "restricted", "projects"),
	"certificate_self_renewal":                       shown("daemontest", "TestTheRestrictedRenewTheirCertificateOnly"),
	"certificate_token":                              field(api.CertificatesPost{}, "token"),
	"certificate_update":                             route("PUT /1.0/certificates/{fingerprint}"),
	"remote_token_expiry":                            shown("daemontest", "TestTokensWorkOnceAndInTime"),
	"directory_manipulation":                         shown("daemontest", "TestFilesOverTheAPI"),
	"sett_snapshot_files":                            route("GET /1.0/instances/{name}/snapshots/{snapshot}/files"),
	"file_delete":                                    route("DELETE /1.0/instances/{name}/files"),
	"file_append":                                    shown("daemontest", "TestFilesOverTheAPI"),
	"file_symlinks":                                  shown("daemontest", "TestFilesOverTheAPI"),
	"file_get_symlink":                               shown("daemontest", "TestFilesOverTheAPI"),
	"instance_file_head":                             route("HEAD /1.0/instances/{name}/files"),
	"console":                                        route("POST /1.0/instances/{name}/console"),
	"console_force":                                  field(api.InstanceConsolePost{}, "force"),
	"console_vga_type":                               field(api.InstanceConsolePost{}, "type"),
	"clustering":                                     route("GET /1.0/cluster/members"),
	"clustering_join":                                field(api.ClusterPut{}, "cluster_address", "cluster_certificate", "cluster_password", "member_config"),
	"clustering_server_address":                      field(api.ClusterPut{}, "server_address"),
	"clustering_roles":                               field(api.ClusterMember{}, "roles"),
	"clustering_edit_roles":                          route("PUT /1.0/cluster/members/{name}"),
	"clustering_architecture":                        field(api.ClusterMember{}, "architecture"),
	"clustering_sizing":                              serverKey("cluster.max_voters", "cluster.max_standby"),
	"clustering_failure_domains":                     field(api.ClusterMemberPut{}, "failure_domain"),
	"clustering_join_token":                          route("POST /1.0/cluster/members"),
	"clustering_description":                         field(api.ClusterMemberPut{}, "description"),
	"clustering_update_cert":                         route("PUT /1.0/cluster/certificate"),
	"clustering_config":                              field(api.ClusterMemberPut{}, "config"),
	"cluster_join_token_expiry":                      serverKey("cluster.join_token_expiry"),
	"container_backup":                               route("GET /1.0/instances/{name}/backups/{backup}/export"),
	"container_backup_override_pool":                 shown("instance", "TestAnImportFindsItsPool"),
	"backup_override_name":                           shown("instance", "TestABackupHoldsAllAndComesBack"),
	"backup_compression":                             serverKey("backups.compression_algorithm"),
	"backup_compression_algorithm":                   field(api.InstanceBackupsPost{}, "compression_algorithm"),
	"container_cpu_time":                             field(api.InstanceStateCPU{}, "usage"),
	"container_exec_recording":                       field(api.InstanceExecPost{}, "record-output"),
	"container_exec_signal_handling":                 shown("instance/exec", "TestExitCodes"),
	"container_exec_user_group_cwd":                  field(api.InstanceExecPost{}, "user", "group", "cwd"),
	"snapshot_scheduling":                            instanceKey("snapshots.schedule", "snapshots.schedule.stopped", "snapshots.pattern"),
	"snapshot_schedule_aliases":                      instanceKey("snapshots.schedule"),
	"snapshot_expiry":                                instanceKey("snapshots.expiry"),
	"snapshot_expiry_creation":                       field(api.InstanceSnapshotsPost{}, "expires_at"),
	"snapshot_disk_usage":                            field(api.InstanceSnapshot{}, "size"),
	"sett_snapshot_retention":                        route("GET /1.0/instances/{name}/retention"),
	"instance_snapshot_never":                        instanceKey("snapshots.schedule"),
	"container_only_migration":                       shown("instance", "TestCopyOfASnapshotIsAnInstance"),
	"container_incremental_copy":                     shown("instance", "TestRefreshBringsContentAndSnapshots"),
	"container_copy_project":                         shown("instance", "TestCopyGivesNobodyMoreThanHeHas"),
	"instance_pool_move":                             shown("instance", "TestMoveBetweenPools"),
	"instance_allow_inconsistent_copy":               shown("instance", "TestRunningSourceHoldsStillUnlessNobodyMinds"),
	"container_full":                                 field(api.InstanceFull{}, "state", "snapshots", "backups"),
	"container_host_shutdown_timeout":                instanceKey("boot.host_shutdown_timeout"),
	"container_image_properties":                     instanceKey("image.os"),
	"container_last_used_at":                         field(api.Instance{}, "last_used_at"),
	"instances_nic_limits_priority":                  nicKey("limits.priority"),
	"container_nic_ipfilter":                         nicKey("security.ipv4_filtering", "security.ipv6_filtering"),
	"container_nic_routes":                           nicKey("ipv4.routes", "ipv6.routes"),
	"container_protection_delete":                    instanceKey("security.protection.delete"),
	"container_stop_priority":                        instanceKey("boot.stop.priority"),
	"entity_description":                             field(api.StoragePool{}, "description"),
	"etag":                                           shown("daemontest", "TestEveryResourceComesAndGoes"),
	"event_lifecycle":                                route("GET /1.0/events"),
	"event_lifecycle_requestor_address":              field(api.EventLifecycleRequestor{}, "address"),
	"images_expiry":                                  field(api.ImagePut{}, "expires_at"),
	"instances_rebuild":                              route("POST /1.0/instances/{name}/rebuild"),
	"operation_requestor":                            field(api.Operation{}, "requestor"),
	"sett_operation_history":                         field(api.Operation{}, "ended_at", "log"),
	"event_location":                                 field(api.Event{}, "location"),
	"event_project":                                  field(api.Event{}, "project"),
	"firewall_driver":                                field(api.ServerEnvironment{}, "firewall"),
	"id_map_base":                                    instanceKey("security.idmap.base"),
	"id_map":                                         shown("instance", "TestIsolatedInstancesShareNoIDs"),
	"id_map_current":                                 instanceKey("volatile.idmap.current"),
	"image_compression_algorithm":                    serverKey("images.compression_algorithm"),
	"image_create_aliases":                           field(api.ImagesPost{}, "aliases"),
	"image_profiles":                                 field(api.Image{}, "profiles"),
	"image_types":                                    field(api.Image{}, "type"),
	"instance_all_projects":                          shown("daemontest", "TestListsOfAllProjectsShowTheCallersOwn"),
	"instance_bulk_state_change":                     route("PUT /1.0/instances"),
	"instance_get_full":                              route("GET /1.0/instances/{name}"),
	"instance_nic_bridged_port_isolation":            nicKey("security.port_isolation"),
	"instance_nic_network":                           nicKey("network"),
	"instances":                                      route("GET /1.0/instances"),
	"kernel_limits":                                  instanceKey("limits.kernel.nofile"),
	"limits_hugepages":                               instanceKey("limits.hugepages.2MB"),
	"linux_sysctl":                                   instanceKey("linux.sysctl.net.ipv4.ip_forward"),
	"kernel_features":                                field(api.ServerEnvironment{}, "kernel_features"),
	"lxc_features":                                   field(api.ServerEnvironment{}, "lxc_features"),
	"network":                                        route("POST /1.0/networks"),
	"network_counters_errors_dropped":                field(api.InstanceStateNetworkCounters{}, "errors_received", "packets_dropped_outbound"),
	"network_dhcp_expiry":                            bridgeKey("ipv4.dhcp.expiry", "ipv6.dhcp.expiry"),
	"network_dhcp_gateway":                           bridgeKey("ipv4.dhcp.gateway"),
	"network_dns_search":                             bridgeKey("dns.search"),
	"network_firewall_filtering":                     bridgeKey("ipv4.firewall", "ipv6.firewall"),
	"network_hwaddr":                                 bridgeKey("bridge.hwaddr"),
	"network_leases":                                 route("GET /1.0/networks/{name}/leases"),
	"network_leases_location":                        field(api.NetworkLease{}, "location"),
	"network_nat_address":                            bridgeKey("ipv4.nat.address", "ipv6.nat.address"),
	"network_nat_order":                              bridgeKey("ipv4.nat.order", "ipv6.nat.order"),
	"network_routes":                                 bridgeKey("ipv4.routes", "ipv6.routes"),
	"network_state":                                  route("GET /1.0/networks/{name}/state"),
	"network_state_vlan":                             field(api.NetworkState{}, "vlan"),
	"operation_description":                          field(api.Operation{}, "description"),
	"patch":                                          route("PATCH /1.0/profiles/{name}"),
	"profile_usedby":                                 field(api.Profile{}, "used_by"),
	"projects":                                       route("GET /1.0/projects"),
	"resource_limits":                                instanceKey("limits.cpu", "limits.memory", "limits.processes"),
	"resources":                                      route("GET /1.0/resources"),
	"resources_cpu_core_die":                         field(api.ResourcesCPUCore{}, "die"),
	"resources_cpu_socket":                           field(api.ResourcesCPU{}, "sockets"),
	"resources_cpu_threads_numa":                     field(api.ResourcesCPUThread{}, "numa_node"),
	"resources_disk_address":                         field(api.ResourcesStorageDisk{}, "pci_address", "usb_address"),
	"resources_gpu":                                  field(api.Resources{}, "gpu"),
	"resources_gpu_usb":                              field(api.ResourcesGPUCard{}, "usb_address"),
	"resources_network_usb":                          field(api.ResourcesNetworkCard{}, "usb_address"),
	"resources_numa":                                 field(api.ResourcesMemory{}, "nodes"),
	"resources_pci_iommu":                            field(api.ResourcesPCIDevice{}, "iommu_group"),
	"resources_infiniband":                           field(api.ResourcesNetworkCardPort{}, "infiniband"),
	"resources_disk_sata":                            field(api.ResourcesStorageDisk{}, "device_path", "block_size", "firmware_version", "rpm", "serial"),
	"resources_network_firmware":                     field(api.ResourcesNetworkCard{}, "firmware_version"),
	"resources_disk_id":                              field(api.ResourcesStorageDisk{}, "device_id"),
	"resources_gpu_mdev":                             field(api.ResourcesGPUCard{}, "mdev"),
	"resources_pci_vpd":                              field(api.ResourcesPCIDevice{}, "vpd"),
	"resources_system":                               field(api.Resources{}, "system"),
	"resources_usb_pci":                              field(api.Resources{}, "usb", "pci"),
	"resources_v2":                                   field(api.Resources{}, "cpu", "network", "storage"),
	"server_instance_driver_operational":             field(api.ServerEnvironment{}, "driver", "driver_version"),
	"server_supported_storage_drivers":               field(api.ServerEnvironment{}, "storage_supported_drivers"),
	"sett_exec_flow":                                 shown("instance/exec", "TestHeldOutputComesWhenItIsLetGo"),
	"sett_webui":                                     route("POST /1.0/webui/links"),
	"storage":                                        route("POST /1.0/storage-pools"),
	"storage_btrfs_mount_options":                    key(func(b *built) config.Table { return b.btrfs }, "btrfs.mount_options"),
	"storage_images_delete":                          route("DELETE /1.0/storage-pools/{name}/volumes/{type}/{volume}"),
	"storage_volatile_initial_source":                key(func(b *built) config.Table { return b.btrfs }, "volatile.initial_source"),
	"storage_volume_state":                           route("GET /1.0/storage-pools/{name}/volumes/{type}/{volume}/state"),
	"storage_volume_state_total":                     field(api.StorageVolumeStateUsage{}, "total"),
	"usedby_consistency":                             field(api.Network{}, "used_by"),
	"container_syscall_filtering":                    instanceKey("security.syscalls.blacklist", "security.syscalls.whitelist", "security.syscalls.blacklist_default", "security.syscalls.blacklist_compat", "raw.seccomp"),
	"container_syscall_filtering_allow_deny_syntax":  instanceKey("security.syscalls.deny", "security.syscalls.allow", "security.syscalls.deny_default", "security.syscalls.deny_compat"),
	"seccomp_notify":                                 func(*built) bool { return seccomp.Policy{Intercept: seccomp.Intercept{Mknod: true}}.Listens() },
	"container_syscall_intercept":                    instanceKey("security.syscalls.intercept.mknod", "security.syscalls.intercept.setxattr"),
	"container_syscall_intercept_mount":              instanceKey("security.syscalls.intercept.mount", "security.syscalls.intercept.mount.allowed", "security.syscalls.intercept.mount.shift"),
	"container_syscall_intercept_mount_fuse":         instanceKey("security.syscalls.intercept.mount.fuse"),
	"container_syscall_intercept_hugetlbfs":          func(*built) bool { l, err := seccomp.ParseMountAllowed("hugetlbfs"); return err == nil && len(l) == 1 },
	"container_syscall_intercept_sched_setscheduler": instanceKey("security.syscalls.intercept.sched_setscheduler"),
	"container_syscall_intercept_sysinfo":            instanceKey("security.syscalls.intercept.sysinfo"),
}

func TestExtensionsAreBuilt(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	b := &built{routes: map[string]bool{}, instance: instance.Keys(), bridge: bridge.New(slog.New(slog.DiscardHandler)).Keys(nil),
		btrfs: btrfs.New().PoolKeys()}
	for _, r := range s.Daemon.Routes() {
		b.routes[r.Method+" "+r.Path] = true
		if r.Extension != "" && proofs[r.Extension] == nil {
			t.Errorf("%s %s belongs to the extension %q, which is not announced", r.Method, r.Path, r.Extension)
		}
	}
	var err error
	if b.nic, err = nic.New().Keys(t.Context(), device.Services{}, "default", device.Config{"type": "nic", "nictype": "bridged", "parent": "br0"}); err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	for _, x := range server.Extensions() {
		if said[x] {
			t.Errorf("%s is announced twice", x)
		}
		said[x] = true
		switch p := proofs[x]; {
		case p == nil:
			t.Errorf("%s is announced, and nothing is known to stand for it", x)
		case !p(b):
			t.Errorf("%s is announced, and what stands for it is not built", x)
		}
	}
	for x := range proofs {
		if !said[x] {
			t.Errorf("%s is built and not announced", x)
		}
	}
}
