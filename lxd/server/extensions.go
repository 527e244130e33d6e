package server

// extensions are the API extensions that this build keeps its word on. A name goes
// in when what it stands for has been built; TestExtensionsAreBuilt holds the list
// against routes and keys.
var extensions = []string{
	"container_edit_metadata", "cloud_init", "restrict_devlxd", "devlxd_events", "devlxd_images", "instance_ready_state", "container_protection_shift",
	"container_host_shutdown_timeout", "container_stop_priority", "container_last_used_at", "etag", "patch",
	"image_compression_algorithm", "container_cpu_time", "network", "profile_usedby",
	"container_exec_recording", "container_exec_signal_handling", "container_image_properties", "id_map",
	"network_firewall_filtering", "network_routes", "storage", "network_dhcp_expiry", "image_create_aliases",
	"storage_btrfs_mount_options", "entity_description", "storage_images_delete", "resource_limits",
	"storage_volatile_initial_source", "resources", "network_dhcp_gateway", "network_leases",
	"operation_description", "event_lifecycle", "network_state", "container_protection_delete",
	"network_hwaddr", "network_nat_order", "container_full", "projects", "network_leases_location",
	"resources_cpu_socket", "resources_gpu", "resources_numa", "kernel_features", "id_map_current", "console",
	"event_location", "network_nat_address", "container_nic_routes", "lxc_features", "container_nic_ipfilter",
	"resources_v2", "container_exec_user_group_cwd", "instances", "image_types", "image_profiles",
	"api_filtering", "instance_nic_network", "firewall_driver", "resources_usb_pci",
	"resources_cpu_threads_numa", "resources_cpu_core_die", "api_os", "resources_system",
	"network_dns_search", "usedby_consistency", "resources_pci_iommu", "resources_network_usb",
	"resources_disk_address", "network_state_vlan", "instance_nic_bridged_port_isolation",
	"instance_bulk_state_change", "storage_volume_state", "clustering_description",
	"server_instance_driver_operational", "server_supported_storage_drivers",
	"event_lifecycle_requestor_address", "resources_gpu_usb", "network_counters_errors_dropped",
	"instance_all_projects", "instance_get_full", "event_project", "storage_volume_state_total",
	"resources_infiniband", "resources_disk_sata", "resources_network_firmware", "resources_disk_id",
	"resources_gpu_mdev", "resources_pci_vpd",
	"certificate_update", "certificate_project", "certificate_self_renewal", "certificate_token", "remote_token_expiry",
	"snapshot_scheduling", "snapshot_schedule_aliases", "snapshot_expiry", "snapshot_expiry_creation", "snapshot_disk_usage",
	"instance_snapshot_never", "sett_snapshot_retention",
	"kernel_limits", "limits_hugepages", "linux_sysctl", "id_map_base", "console_vga_type", "console_force",
	"clustering", "clustering_join", "clustering_server_address", "clustering_roles", "clustering_edit_roles",
	"clustering_architecture", "clustering_sizing", "clustering_failure_domains", "clustering_join_token",
	"clustering_update_cert", "clustering_config", "cluster_join_token_expiry",
	"directory_manipulation", "file_delete", "file_append", "file_symlinks", "file_get_symlink", "instance_file_head",
	"container_only_migration", "container_incremental_copy", "container_copy_project", "instance_pool_move", "instance_allow_inconsistent_copy",
	"images_expiry", "instances_rebuild", "instances_nic_limits_priority",
	"container_syscall_filtering", "container_syscall_filtering_allow_deny_syntax", "seccomp_notify", "container_syscall_intercept",
	"container_syscall_intercept_mount", "container_syscall_intercept_mount_fuse", "container_syscall_intercept_hugetlbfs",
	"container_syscall_intercept_sched_setscheduler", "container_syscall_intercept_sysinfo",
	"operation_requestor",
	"container_backup", "backup_compression", "backup_compression_algorithm", "container_backup_override_pool", "backup_override_name",
	"sett_exec_flow", "sett_snapshot_files", "sett_webui", "sett_operation_history",
}

// Extensions lists the API extensions by name.
func Extensions() []string { return append([]string{}, extensions...) }
