// Package ui is the web interface: the pages that a browser loads under /ui/, and
// how a browser logs in.
//
// The pages are TypeScript in web/, built into dist/ by npm and embedded from there.
// A browser logs in by a link that somebody asks for who may call the API already:
// the link works once and for minutes, and turns into a session that a cookie names.
// A session acts with the rights of whoever asked for the link, as they are at the
// time of each request. It owns the tables webui_links and webui_sessions, which hold
// hashes of secrets and never a secret.
package ui
