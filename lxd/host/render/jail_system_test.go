//go:build system

package render_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"sett/lxd/host/render"
)

func TestJailRendersAndReportsErrors(t *testing.T) {
	t.Parallel()
	out, err := render.Jail{}.Render(t.Context(), job("{{ instance.name }}\n", "{{ properties.k }}{# hard #}"))
	if err != nil || len(out) != 2 || out[0] != "c1\n" || out[1] != "<v>" {
		t.Fatalf("%q %v", out, err)
	}
	var e *render.Error
	if _, err = (render.Jail{}).Render(t.Context(), job("{{ ")); !errors.As(err, &e) || e.Path != "/etc/hostname" {
		t.Errorf("a template that is not right: %v", err)
	}
	if out, err := (render.Jail{}).Render(t.Context(), job()); err != nil || len(out) != 0 {
		t.Errorf("nothing to do: %v %v", out, err)
	}
}

// Templates that would run or grow for ever end with an error, and soon.
func TestJailEndsWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	loop := strings.Repeat(`{% for a in "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" %}`, 12) + strings.Repeat(`{% endfor %}`, 12)
	for name, source := range map[string]string{
		"loop":      loop,
		"recursion": `{% macro m(a) %}{{ m(a) }}{% endmacro %}{{ m(1) }}`,
		"memory":    `{% filter upper %}` + strings.Repeat(`{% for a in "aaaaaaaaaaaaaaaaaaaa" %}`, 6) + `{{ "x"|center:9000 }}` + strings.Repeat(`{% endfor %}`, 6) + `{% endfilter %}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := render.Jail{}.Render(t.Context(), job(source))
			var e *render.Error
			if !errors.As(err, &e) {
				t.Errorf("%.100q %v", out, err)
			}
		})
	}
}

func TestTheChildHasNotTheKeysOfTheDaemon(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("/proc/self/exe", "-with-key").CombinedOutput()
	if err != nil || string(out) != "daemon: true child: [false] <nil>\n" {
		t.Errorf("%s %v", out, err)
	}
}
