-- Browsers that are logged in, and links by which one can log in. Secrets are in
-- here as their SHA-256 only. protocol and username say whose rights a browser has;
-- listener is set for sessions that are good on one listener only, one on loopback.

CREATE TABLE webui_links (
    id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    hash        TEXT NOT NULL UNIQUE,
    protocol    TEXT NOT NULL,
    username    TEXT NOT NULL,
    expiry_date DATETIME NOT NULL
);

CREATE TABLE webui_sessions (
    id            INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    uuid          TEXT NOT NULL UNIQUE,
    hash          TEXT NOT NULL UNIQUE,
    listener      TEXT NOT NULL DEFAULT '',
    protocol      TEXT NOT NULL,
    username      TEXT NOT NULL,
    address       TEXT NOT NULL DEFAULT '',
    user_agent    TEXT NOT NULL DEFAULT '',
    creation_date DATETIME NOT NULL,
    expiry_date   DATETIME NOT NULL
);
