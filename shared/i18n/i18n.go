// Package i18n translates what users read.
//
// The text in the code is the key of its translation, so a missing catalogue
// leaves English. Catalogues are the compiled gettext files of the system
// (/usr/share/locale) or of $SETT_LOCALEDIR.
package i18n

import (
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/leonelquinteros/gotext"
)

// domain is the name of the catalogue files.
const domain = "lxd"

// catalogue is state of the process: the language of a program's user does not
// change while it runs, and translated strings stand in declarations all over
// the command tree, where no value could be handed to them.
var catalogue = sync.OnceValue(load)

func load() *gotext.Mo {
	dir := os.Getenv("SETT_LOCALEDIR")
	if dir == "" {
		dir = "/usr/share/locale"
	}
	for _, lang := range languages() {
		file := filepath.Join(dir, lang, "LC_MESSAGES", domain+".mo")
		if _, err := os.Stat(file); err != nil {
			continue
		}
		mo := gotext.NewMo()
		mo.ParseFile(file)
		return mo
	}
	return nil
}

// languages lists what the environment asks for, best first: "de_CH.UTF-8"
// stands for de_CH and for de.
func languages() []string {
	var want string
	for _, key := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if want = os.Getenv(key); want != "" {
			break
		}
	}
	if want == "" || want == "C" || want == "POSIX" || strings.HasPrefix(want, "C.") {
		return nil
	}
	var out []string
	for l := range strings.SplitSeq(os.Getenv("LANGUAGE")+":"+want, ":") {
		l, _, _ = strings.Cut(l, ".")
		l, _, _ = strings.Cut(l, "@")
		if l == "" || strings.ContainsAny(l, "/\\") {
			continue
		}
		out = append(out, l)
		if short, _, ok := strings.Cut(l, "_"); ok {
			out = append(out, short)
		}
	}
	return out
}

// G translates a sentence.
func G(text string) string {
	c := catalogue()
	if c == nil || text == "" {
		return text
	}
	// The explicit lack of arguments keeps percent signs as they are.
	return c.Get(text, []any(nil)...)
}

// NG translates a sentence whose form depends on a number.
func NG(one, many string, n int) string {
	if c := catalogue(); c != nil {
		return c.GetN(one, many, n)
	}
	if n == 1 {
		return one
	}
	return many
}
