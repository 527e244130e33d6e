-- The first schema. Table and column names are LXD 5.0's where an administrator
-- would look. Every object belongs to a project, and what differs between members
-- has a row per member, from the start.
--
-- Numbers with a meaning:
--   instances.type            0 container, 1 virtual machine
--   storage_volumes.type      0 container, 1 image, 2 custom, 3 virtual machine
--   storage_volumes.content_type  0 filesystem, 1 block
--   *.state (pools, networks and their nodes)  0 pending, 1 created, 2 errored
--   nodes.state               0 created, 1 pending, 2 evacuated
--   images.type               0 container, 1 virtual machine
--   images_source.protocol    1 lxd, 2 direct, 3 simplestreams
--   nodes_roles.role          0 database, 1 event hub, 2 OVN chassis
--   certificates.type         1 client, 2 server, 3 metrics
--   warnings.status           1 new, 2 acknowledged, 3 resolved
-- Types of devices, networks and architectures are words, because their drivers
-- bring them and no table here should have to list them.

CREATE TABLE config (
    id    INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    key   TEXT NOT NULL UNIQUE,
    value TEXT
);

CREATE TABLE nodes (
    id                INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name              TEXT NOT NULL UNIQUE,
    description       TEXT NOT NULL DEFAULT '',
    address           TEXT NOT NULL UNIQUE,
    schema            INTEGER NOT NULL,
    api_extensions    INTEGER NOT NULL,
    heartbeat         DATETIME DEFAULT CURRENT_TIMESTAMP,
    state             INTEGER NOT NULL DEFAULT 0,
    arch              TEXT NOT NULL DEFAULT '',
    failure_domain_id INTEGER DEFAULT NULL
);

CREATE TABLE nodes_roles (
    node_id INTEGER NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    role    INTEGER NOT NULL,
    UNIQUE (node_id, role)
);

-- The mark of the last transaction that a member committed. After a lost connection
-- it tells whether a commit arrived.
CREATE TABLE nodes_commits (
    node_id INTEGER PRIMARY KEY NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    mark    TEXT NOT NULL
);

CREATE TABLE projects (
    id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name        TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL DEFAULT ''
);

CREATE TABLE projects_config (
    id         INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    key        TEXT NOT NULL,
    value      TEXT,
    UNIQUE (project_id, key)
);

CREATE TABLE certificates (
    id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    fingerprint TEXT NOT NULL UNIQUE,
    type        INTEGER NOT NULL,
    name        TEXT NOT NULL,
    certificate TEXT NOT NULL,
    restricted  INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE certificates_projects (
    certificate_id INTEGER NOT NULL REFERENCES certificates (id) ON DELETE CASCADE,
    project_id     INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    UNIQUE (certificate_id, project_id)
);

CREATE TABLE profiles (
    id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name        TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    project_id  INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    UNIQUE (project_id, name)
);

CREATE TABLE profiles_config (
    id         INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    profile_id INTEGER NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
    key        TEXT NOT NULL,
    value      TEXT,
    UNIQUE (profile_id, key)
);

CREATE TABLE profiles_devices (
    id         INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    profile_id INTEGER NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    type       TEXT NOT NULL DEFAULT 'none',
    UNIQUE (profile_id, name)
);

CREATE TABLE profiles_devices_config (
    id                INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    profile_device_id INTEGER NOT NULL REFERENCES profiles_devices (id) ON DELETE CASCADE,
    key               TEXT NOT NULL,
    value             TEXT,
    UNIQUE (profile_device_id, key)
);

CREATE TABLE storage_pools (
    id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name        TEXT NOT NULL UNIQUE,
    driver      TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    state       INTEGER NOT NULL DEFAULT 0
);

-- node_id is NULL for a key that is the same on all members.
CREATE TABLE storage_pools_config (
    id              INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    storage_pool_id INTEGER NOT NULL REFERENCES storage_pools (id) ON DELETE CASCADE,
    node_id         INTEGER REFERENCES nodes (id) ON DELETE CASCADE,
    key             TEXT NOT NULL,
    value           TEXT
);
CREATE UNIQUE INDEX storage_pools_config_unique ON storage_pools_config (storage_pool_id, IFNULL(node_id, -1), key);

CREATE TABLE storage_pools_nodes (
    id              INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    storage_pool_id INTEGER NOT NULL REFERENCES storage_pools (id) ON DELETE CASCADE,
    node_id         INTEGER NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    state           INTEGER NOT NULL DEFAULT 0,
    UNIQUE (storage_pool_id, node_id)
);

-- node_id is NULL for a volume that all members can reach.
CREATE TABLE storage_volumes (
    id              INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name            TEXT NOT NULL,
    storage_pool_id INTEGER NOT NULL REFERENCES storage_pools (id) ON DELETE CASCADE,
    node_id         INTEGER REFERENCES nodes (id) ON DELETE CASCADE,
    type            INTEGER NOT NULL,
    description     TEXT NOT NULL DEFAULT '',
    project_id      INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    content_type    INTEGER NOT NULL DEFAULT 0,
    creation_date   DATETIME
);
CREATE UNIQUE INDEX storage_volumes_unique ON storage_volumes (storage_pool_id, IFNULL(node_id, -1), project_id, name, type);
CREATE INDEX storage_volumes_project ON storage_volumes (project_id);

CREATE TABLE storage_volumes_config (
    id                INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    storage_volume_id INTEGER NOT NULL REFERENCES storage_volumes (id) ON DELETE CASCADE,
    key               TEXT NOT NULL,
    value             TEXT,
    UNIQUE (storage_volume_id, key)
);

CREATE TABLE storage_volumes_snapshots (
    id                INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    storage_volume_id INTEGER NOT NULL REFERENCES storage_volumes (id) ON DELETE CASCADE,
    name              TEXT NOT NULL,
    description       TEXT NOT NULL DEFAULT '',
    expiry_date       DATETIME,
    creation_date     DATETIME,
    UNIQUE (storage_volume_id, name)
);

CREATE TABLE storage_volumes_snapshots_config (
    id                         INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    storage_volume_snapshot_id INTEGER NOT NULL REFERENCES storage_volumes_snapshots (id) ON DELETE CASCADE,
    key                        TEXT NOT NULL,
    value                      TEXT,
    UNIQUE (storage_volume_snapshot_id, key)
);

CREATE TABLE storage_volumes_backups (
    id                INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    storage_volume_id INTEGER NOT NULL REFERENCES storage_volumes (id) ON DELETE CASCADE,
    name              TEXT NOT NULL,
    creation_date     DATETIME,
    expiry_date       DATETIME,
    volume_only       INTEGER NOT NULL DEFAULT 0,
    optimized_storage INTEGER NOT NULL DEFAULT 0,
    UNIQUE (storage_volume_id, name)
);

CREATE TABLE networks (
    id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    project_id  INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    state       INTEGER NOT NULL DEFAULT 0,
    type        TEXT NOT NULL DEFAULT 'bridge',
    UNIQUE (project_id, name)
);

-- node_id is NULL for a key that is the same on all members.
CREATE TABLE networks_config (
    id         INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    network_id INTEGER NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    node_id    INTEGER REFERENCES nodes (id) ON DELETE CASCADE,
    key        TEXT NOT NULL,
    value      TEXT
);
CREATE UNIQUE INDEX networks_config_unique ON networks_config (network_id, IFNULL(node_id, -1), key);

CREATE TABLE networks_nodes (
    id         INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    network_id INTEGER NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    node_id    INTEGER NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    state      INTEGER NOT NULL DEFAULT 0,
    UNIQUE (network_id, node_id)
);

CREATE TABLE images (
    id            INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    fingerprint   TEXT NOT NULL,
    filename      TEXT NOT NULL,
    size          INTEGER NOT NULL,
    public        INTEGER NOT NULL DEFAULT 0,
    architecture  TEXT NOT NULL,
    creation_date DATETIME,
    expiry_date   DATETIME,
    upload_date   DATETIME NOT NULL,
    cached        INTEGER NOT NULL DEFAULT 0,
    last_use_date DATETIME,
    auto_update   INTEGER NOT NULL DEFAULT 0,
    project_id    INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    type          INTEGER NOT NULL DEFAULT 0,
    UNIQUE (project_id, fingerprint)
);
CREATE INDEX images_fingerprint ON images (fingerprint);

CREATE TABLE images_aliases (
    id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name        TEXT NOT NULL,
    image_id    INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    description TEXT NOT NULL DEFAULT '',
    project_id  INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    UNIQUE (project_id, name)
);
CREATE INDEX images_aliases_image ON images_aliases (image_id);

CREATE TABLE images_nodes (
    id       INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    image_id INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    node_id  INTEGER NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    UNIQUE (image_id, node_id)
);

CREATE TABLE images_profiles (
    image_id   INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    profile_id INTEGER NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
    UNIQUE (image_id, profile_id)
);

CREATE TABLE images_properties (
    id       INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    image_id INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    type     INTEGER NOT NULL DEFAULT 0,
    key      TEXT NOT NULL,
    value    TEXT,
    UNIQUE (image_id, key)
);

CREATE TABLE images_source (
    id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    image_id    INTEGER NOT NULL UNIQUE REFERENCES images (id) ON DELETE CASCADE,
    server      TEXT NOT NULL,
    protocol    INTEGER NOT NULL,
    certificate TEXT NOT NULL DEFAULT '',
    alias       TEXT NOT NULL DEFAULT ''
);

CREATE TABLE instances (
    id            INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    node_id       INTEGER NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    name          TEXT NOT NULL,
    architecture  TEXT NOT NULL,
    type          INTEGER NOT NULL DEFAULT 0,
    ephemeral     INTEGER NOT NULL DEFAULT 0,
    creation_date DATETIME NOT NULL DEFAULT 0,
    stateful      INTEGER NOT NULL DEFAULT 0,
    last_use_date DATETIME,
    description   TEXT NOT NULL DEFAULT '',
    project_id    INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    expiry_date   DATETIME,
    UNIQUE (project_id, name)
);
CREATE INDEX instances_node ON instances (node_id);

CREATE TABLE instances_config (
    id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    instance_id INTEGER NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    key         TEXT NOT NULL,
    value       TEXT,
    UNIQUE (instance_id, key)
);

CREATE TABLE instances_devices (
    id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    instance_id INTEGER NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    type        TEXT NOT NULL DEFAULT 'none',
    UNIQUE (instance_id, name)
);

CREATE TABLE instances_devices_config (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    instance_device_id INTEGER NOT NULL REFERENCES instances_devices (id) ON DELETE CASCADE,
    key                TEXT NOT NULL,
    value              TEXT,
    UNIQUE (instance_device_id, key)
);

CREATE TABLE instances_profiles (
    id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    instance_id INTEGER NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    profile_id  INTEGER NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
    apply_order INTEGER NOT NULL DEFAULT 0,
    UNIQUE (instance_id, profile_id)
);
CREATE INDEX instances_profiles_profile ON instances_profiles (profile_id);

CREATE TABLE instances_snapshots (
    id            INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    instance_id   INTEGER NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    name          TEXT NOT NULL,
    creation_date DATETIME NOT NULL DEFAULT 0,
    stateful      INTEGER NOT NULL DEFAULT 0,
    description   TEXT NOT NULL DEFAULT '',
    expiry_date   DATETIME,
    UNIQUE (instance_id, name)
);

CREATE TABLE instances_snapshots_config (
    id                   INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    instance_snapshot_id INTEGER NOT NULL REFERENCES instances_snapshots (id) ON DELETE CASCADE,
    key                  TEXT NOT NULL,
    value                TEXT,
    UNIQUE (instance_snapshot_id, key)
);

CREATE TABLE instances_snapshots_devices (
    id                   INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    instance_snapshot_id INTEGER NOT NULL REFERENCES instances_snapshots (id) ON DELETE CASCADE,
    name                 TEXT NOT NULL,
    type                 TEXT NOT NULL DEFAULT 'none',
    UNIQUE (instance_snapshot_id, name)
);

CREATE TABLE instances_snapshots_devices_config (
    id                          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    instance_snapshot_device_id INTEGER NOT NULL REFERENCES instances_snapshots_devices (id) ON DELETE CASCADE,
    key                         TEXT NOT NULL,
    value                       TEXT,
    UNIQUE (instance_snapshot_device_id, key)
);

CREATE TABLE instances_backups (
    id                INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    instance_id       INTEGER NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    name              TEXT NOT NULL,
    creation_date     DATETIME,
    expiry_date       DATETIME,
    container_only    INTEGER NOT NULL DEFAULT 0,
    optimized_storage INTEGER NOT NULL DEFAULT 0,
    UNIQUE (instance_id, name)
);

CREATE TABLE warnings (
    id               INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    node_id          INTEGER REFERENCES nodes (id) ON DELETE CASCADE,
    project_id       INTEGER REFERENCES projects (id) ON DELETE CASCADE,
    entity_type_code INTEGER,
    entity_id        INTEGER,
    uuid             TEXT NOT NULL UNIQUE,
    type_code        INTEGER NOT NULL,
    status           INTEGER NOT NULL DEFAULT 1,
    first_seen_date  DATETIME NOT NULL,
    last_seen_date   DATETIME NOT NULL,
    updated_date     DATETIME,
    last_message     TEXT NOT NULL DEFAULT '',
    count            INTEGER NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX warnings_unique ON warnings
    (IFNULL(node_id, -1), IFNULL(project_id, -1), IFNULL(entity_type_code, -1), IFNULL(entity_id, -1), type_code);

-- What every new database has: this member, the default project and its profile.
INSERT INTO nodes (id, name, address, schema, api_extensions) VALUES (1, 'none', '0.0.0.0', 1, 0);
INSERT INTO projects (id, name, description) VALUES (1, 'default', 'Default LXD project');
INSERT INTO projects_config (project_id, key, value) VALUES
    (1, 'features.images', 'true'),
    (1, 'features.networks', 'true'),
    (1, 'features.profiles', 'true'),
    (1, 'features.storage.volumes', 'true');
INSERT INTO profiles (id, name, description, project_id) VALUES (1, 'default', 'Default LXD profile', 1);
