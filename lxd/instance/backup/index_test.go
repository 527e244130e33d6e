package backup_test

import (
	"strings"
	"testing"

	"sett/lxd/instance/backup"
)

func TestFilesOfManyValuesAreNotRead(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"a,", "{},", "[],", "\n- a"} {
		text := "container: {name: c1}\nsnapshots: [" + strings.Repeat(value, 1<<19) + "]\n"
		if value[0] == '\n' {
			text = "snapshots:" + strings.Repeat(value, 1<<19) + "\n"
		}
		if _, err := backup.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), "more than 300000 values") {
			t.Errorf("%q: %.100v", value, err)
		}
	}
	if _, err := backup.Parse([]byte("container: {name: c1}\nsnapshots: [" + strings.Repeat("{},", 1000) + "]\n")); err != nil {
		t.Error(err)
	}
}
