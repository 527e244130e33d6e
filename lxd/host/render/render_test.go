package render_test

import (
	"os"
	"strings"
	"testing"

	"sett/lxd/host/render"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == render.Verb {
		os.Exit(render.Main())
	}
	keys()
	os.Exit(m.Run())
}

func job(sources ...string) render.Job {
	j := render.Job{
		Instance: map[string]string{"name": "c1", "type": "container", "privileged": "false"},
		Config:   map[string]string{"user.user-data": "#cloud-config\n\n", "user.empty": ""},
		Devices:  map[string]map[string]string{"eth0": {"type": "nic", "network": "br0"}},
	}
	for _, s := range sources {
		j.Files = append(j.Files, render.File{Trigger: "create", Path: "/etc/hostname", Source: s, Properties: map[string]string{"k": "<v>"}})
	}
	return j
}

func TestTemplatesReadWhatTheyAreGiven(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		"{{ container.name }}\n": "c1\n",
		"{{ instance.name }} {{ instance.type }} {{ trigger }} {{ path }}": "c1 container create /etc/hostname",
		"{{ properties.k }}":                                                    "<v>",
		"{{ devices.eth0.network }}":                                            "br0",
		`{{ config_get("user.user-data", "none") }}`:                            "#cloud-config",
		`{{ config_get("user.none", properties.k) }}`:                           "<v>",
		`{% if config_get("user.empty", "") == "" %}a{% else %}b{% endif %}`:    "a",
		`{% for k, v in config sorted %}{{ k }};{% endfor %}`:                   "user.empty;user.user-data;",
		`{{ config_get("user.a", config_get("user.user-data", "")) }}`:          "#cloud-config",
		"plain { text } without <anything>\n":                                   "plain { text } without <anything>\n",
		`{{ nothing.at.all }}`:                                                  "",
		`{% if instance.type == "virtual-machine" %}v{% else %}c{% endif %}eth`: "ceth",
	} {
		out, err := render.Direct{}.Render(t.Context(), job(source))
		if err != nil || out[0] != want {
			t.Errorf("%s: %q %v, want %q", source, out, err, want)
		}
	}
}

// What is rendered without the language comes out as with it.
func TestPlainTemplatesNeedNoChild(t *testing.T) {
	t.Parallel()
	none := render.Jail{Command: []string{"/bin/false"}}
	for _, source := range []string{
		"", "text\n", "{{ container.name }}\n", "127.0.1.1\t{{instance.name}} {{  container.name  }}\n", "{{ trigger }}:{{ path }}", "{{ properties.k }}",
		"{{ properties.none }}|{{ instance.none }}", "}} { ", "a { b } c",
	} {
		want, err := render.Direct{}.Render(t.Context(), job(source))
		if err != nil {
			t.Fatalf("%q: %v", source, err)
		}
		if got, err := none.Render(t.Context(), job(source)); err != nil || got[0] != want[0] {
			t.Errorf("%q: %q %v, want %q", source, got, err, want[0])
		}
	}
	// The rest is the child's, and this one fails.
	for _, source := range []string{
		"{{ container.name|upper }}", "{{ 1 }}", "{{ container }}", "{{ devices.eth0.type }}", "{{ config_get(\"a\", \"b\") }}",
		"{# a #}", "{% if a %}{% endif %}", "{{ container.name", "{{- container.name -}}", "{{}}", "{{ \"a\" }}", "{{ properties.k.x }}", "{{ container . name }}",
	} {
		if got, err := none.Render(t.Context(), job(source)); err == nil {
			t.Errorf("%q became %q", source, got)
		}
	}
}

func TestTemplatesReadNothingElse(t *testing.T) {
	t.Parallel()
	for _, source := range []string{
		`{% include "/etc/passwd" %}`, `{% ssi "/etc/passwd" %}`, `{% ssi "/etc/passwd" parsed %}`, `{% extends "/etc/passwd" %}`,
		`{% import "/etc/passwd" a %}`, `{% include path %}`, `{% lorem 100000000 w %}`, `{% unknown %}`, `{{ `, `{{ config_get() }}`,
		`{% for i in "aaaaaaaaaa" %}{{ config_get("user.none", "x")|center:1000000 }}{% endfor %}`, // too long
	} {
		out, err := render.Direct{}.Render(t.Context(), job(source))
		if err == nil {
			t.Errorf("%s made %.100q", source, out)
			continue
		}
		if !strings.Contains(err.Error(), "/etc/hostname") {
			t.Errorf("%s: the error does not name the file: %v", source, err)
		}
	}
}
