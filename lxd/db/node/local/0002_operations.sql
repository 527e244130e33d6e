-- What operations of this member were. A row without an end belongs to one that runs, or
-- was cut off: the next start of the daemon finds out what became of it.
CREATE TABLE operations_history (
    id          TEXT PRIMARY KEY NOT NULL,
    class       TEXT NOT NULL,
    description TEXT NOT NULL,
    project     TEXT NOT NULL,
    location    TEXT NOT NULL,
    created_at  DATETIME NOT NULL,
    updated_at  DATETIME NOT NULL,
    ended_at    DATETIME,
    status      INTEGER NOT NULL,
    error       TEXT NOT NULL,
    username    TEXT NOT NULL,
    protocol    TEXT NOT NULL, -- empty: the daemon's own work
    address     TEXT NOT NULL,
    resources   TEXT NOT NULL, -- JSON, as the API shows them
    metadata    TEXT NOT NULL,
    log         TEXT NOT NULL
);
CREATE INDEX operations_history_created ON operations_history (created_at);
