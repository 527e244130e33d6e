package main

import (
	"bytes"
	"os"
	"testing"
)

func TestReferenceIsUpToDate(t *testing.T) {
	t.Parallel()
	all, err := pages()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range all {
		got, err := os.ReadFile("../reference/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("doc/reference/%s is not what the code declares; run 'make doc'", name)
		}
	}
}

func TestEveryKeyHasASentence(t *testing.T) {
	t.Parallel()
	all, err := sections()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		for _, k := range s.table.Keys() {
			if k.Refused == "" && k.Doc == "" && k.Name != "user.*" {
				t.Errorf("%s: %s has no sentence", s.title, k.Name)
			}
		}
	}
}
