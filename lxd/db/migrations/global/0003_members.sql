-- What members are given by their administrators.

CREATE TABLE nodes_config (
    id      INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    node_id INTEGER NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    key     TEXT NOT NULL,
    value   TEXT,
    UNIQUE (node_id, key)
);

-- nodes.failure_domain_id points here; none is the domain "default".
CREATE TABLE nodes_failure_domains (
    id   INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name TEXT NOT NULL UNIQUE
);
