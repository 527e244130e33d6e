package extract

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite po/lxc.pot")

// po/lxc.pot must know all strings of the command line. Rewrite it with
// "go test ./shared/i18n/extract -update".
func TestTemplateIsUpToDate(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..", "..")
	var got bytes.Buffer
	if err := Write(&got, root, "lxc", "client"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, "po", "lxc.pot")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("po/lxc.pot is old; run: go test ./shared/i18n/extract -update")
	}
}

func TestStringsAreFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	src := "package x\nvar _ = i18n.G(\"one \\\"%s\\\"\\n\" + \"two\")\nvar _ = i18n.NG(\"%d day\", \"%d days\", 2)\n"
	if err := os.WriteFile(filepath.Join(dir, "x.go"), []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := Write(&got, dir, "."); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"#: x.go\n#, c-format\nmsgid \"\"\n\"one \\\"%s\\\"\\n\"\n\"two\"\nmsgstr \"\"\n",
		"msgid \"%d day\"\nmsgid_plural \"%d days\"\n",
	} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("lacks %q:\n%s", want, got.String())
		}
	}
}

func TestUnknowableStringsAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x.go"), []byte("package x\nvar _ = i18n.G(name)\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(&bytes.Buffer{}, dir, "."); err == nil {
		t.Error("a string that is no literal cannot be translated")
	}
}
