// What the API sends, as far as the pages use it.

export interface Envelope {
  type: "sync" | "async" | "error";
  operation?: string;
  error?: string;
  error_code?: number;
  metadata: unknown;
}

export interface Server {
  api_extensions: string[];
  auth: "trusted" | "untrusted";
  config?: Record<string, unknown>;
  environment?: {
    addresses: string[];
    architectures: string[];
    driver: string;
    driver_version: string;
    firewall: string;
    kernel: string;
    kernel_version: string;
    kernel_architecture: string;
    os_name: string;
    os_version: string;
    project: string;
    server: string;
    server_clustered: boolean;
    server_name: string;
    server_pid: number;
    server_version: string;
    storage: string;
    storage_version: string;
  };
}

export interface Resources {
  cpu: { total: number; sockets: { name?: string }[] | null };
  memory: { used: number; total: number };
}

export type Devices = Record<string, Record<string, string>>;
export type Config = Record<string, string>;

export interface InstanceState {
  status: string;
  cpu: { usage: number };
  memory: { usage: number; usage_peak: number };
  network: Record<
    string,
    {
      addresses: { family: string; address: string; netmask: string; scope: string }[] | null;
      counters: { bytes_received: number; bytes_sent: number };
      hwaddr: string;
      state: string;
      type: string;
    }
  > | null;
  pid: number;
  processes: number;
}

export interface InstancePut {
  architecture: string;
  config: Config;
  devices: Devices;
  ephemeral: boolean;
  profiles: string[];
  stateful: boolean;
  description: string;
}

export interface Instance extends InstancePut {
  name: string;
  status: string;
  type: string;
  location: string;
  project: string;
  created_at: string;
  last_used_at: string;
  expanded_config: Config;
  expanded_devices: Devices;
  state?: InstanceState | null;
}

export interface Operation {
  id: string;
  class: string;
  description: string;
  created_at: string;
  updated_at: string;
  status: string;
  status_code: number;
  resources: Record<string, string[]> | null;
  metadata: Record<string, unknown> | null;
  may_cancel: boolean;
  err: string;
  location: string;
  requestor?: { username: string };
  ended_at?: string;
}

export interface Image {
  fingerprint: string;
  aliases: { name: string; description: string }[] | null;
  architecture: string;
  cached: boolean;
  filename: string;
  properties: Record<string, string> | null;
  public: boolean;
  size: number;
  type: string;
  uploaded_at: string;
}

export interface Profile {
  name: string;
  description: string;
  config: Config;
  devices: Devices;
  used_by: string[] | null;
}

export interface Network {
  name: string;
  description: string;
  type: string;
  managed: boolean;
  status: string;
  config: Config;
  used_by: string[] | null;
}

export interface StoragePool {
  name: string;
  description: string;
  driver: string;
  status: string;
  config: Config;
  used_by: string[] | null;
}

export interface Project {
  name: string;
  description: string;
  config: Config;
  used_by: string[] | null;
}

export interface Member {
  server_name: string;
  url: string;
  database: boolean;
  status: string;
  message: string;
  architecture: string;
  roles: string[] | null;
  failure_domain: string;
  description: string;
}

export interface Session {
  id: string;
  protocol: string;
  username: string;
  address: string;
  user_agent: string;
  created_at: string;
  expires_at: string;
  current: boolean;
}

export interface ApiEvent {
  type: "lifecycle" | "operation" | "logging";
  timestamp: string;
  metadata: Record<string, unknown>;
  location?: string;
  project?: string;
}
