package i18n

import (
	"slices"
	"testing"
)

func TestLanguagesFollowTheEnvironment(t *testing.T) {
	for _, c := range []struct {
		all, lang, language string
		want                []string
	}{
		{"", "C.UTF-8", "", nil},
		{"C", "de_DE.UTF-8", "", nil},
		{"", "de_CH.UTF-8", "", []string{"de_CH", "de"}},
		{"", "de_DE.UTF-8", "fr:it", []string{"fr", "it", "de_DE", "de"}},
		{"", "sr_RS@latin", "", []string{"sr_RS", "sr"}},
		{"", "../../etc", "", nil},
	} {
		t.Setenv("LC_ALL", c.all)
		t.Setenv("LC_MESSAGES", "")
		t.Setenv("LANG", c.lang)
		t.Setenv("LANGUAGE", c.language)
		if got := languages(); !slices.Equal(got, c.want) {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

func TestNumbersPickTheirForm(t *testing.T) {
	if NG("%d day", "%d days", 1) != "%d day" || NG("%d day", "%d days", 0) != "%d days" {
		t.Error("without a catalogue English rules hold")
	}
}
