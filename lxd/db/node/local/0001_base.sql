-- What concerns this member alone and must be known before the shared database runs.

CREATE TABLE config (
    id    INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    key   TEXT NOT NULL UNIQUE,
    value TEXT
);

CREATE TABLE patches (
    id         INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name       TEXT NOT NULL UNIQUE,
    applied_at DATETIME NOT NULL
);

-- role: 0 voter, 1 stand-by, 2 spare
CREATE TABLE raft_nodes (
    id      INTEGER PRIMARY KEY NOT NULL,
    address TEXT NOT NULL UNIQUE,
    role    INTEGER NOT NULL DEFAULT 0,
    name    TEXT NOT NULL DEFAULT ''
);

-- Notes of this program: global_schema is the version that the shared database had
-- when it was last open here, so that an older program can refuse without starting it.
CREATE TABLE sett (
    key   TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);
