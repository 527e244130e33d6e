package db

import "strings"

// words walks the tokens of SQL: keywords and names in upper case, each sign by
// itself. Quoted text, numbers and comments are passed over, so that a word inside
// of them is never taken for a keyword. A quoted name or text comes out as `"`.
type words struct {
	s      string
	pos    int
	broken bool // a quote or comment was left open
}

func newWords(s string) *words { return &words{s: s} }

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func (w *words) next() (string, bool) {
	for w.pos < len(w.s) {
		c := w.s[w.pos]
		rest := w.s[w.pos:]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == 0:
			w.pos++
		case strings.HasPrefix(rest, "--"):
			if i := strings.IndexByte(rest, '\n'); i >= 0 {
				w.pos += i + 1
			} else {
				w.pos = len(w.s)
			}
		case strings.HasPrefix(rest, "/*"):
			i := strings.Index(rest[2:], "*/")
			if i < 0 {
				w.broken = true // SQLite takes it for a comment up to the end
				w.pos = len(w.s)
			} else {
				w.pos += i + 4
			}
		case c == '\'' || c == '"' || c == '`':
			w.quoted(c)
			return `"`, true
		case c == '[':
			if i := strings.IndexByte(rest, ']'); i >= 0 {
				w.pos += i + 1
			} else {
				w.broken = true
				w.pos = len(w.s)
			}
			return `"`, true
		case isWord(c):
			start := w.pos
			for w.pos < len(w.s) && isWord(w.s[w.pos]) {
				w.pos++
			}
			return strings.ToUpper(w.s[start:w.pos]), true
		default:
			w.pos++
			return string(c), true
		}
	}
	return "", false
}

// quoted passes over text in quotes, in which a doubled quote stands for itself.
func (w *words) quoted(q byte) {
	w.pos++
	for w.pos < len(w.s) {
		if w.s[w.pos] != q {
			w.pos++
			continue
		}
		w.pos++
		if w.pos < len(w.s) && w.s[w.pos] == q {
			w.pos++
			continue
		}
		return
	}
	w.broken = true
}
