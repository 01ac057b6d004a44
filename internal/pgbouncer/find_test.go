package pgbouncer_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/internal/child"
	"github.com/dbscope/dbscope/internal/pgbouncer"
)

func TestTheEnvironmentChoosesThePgBouncer(t *testing.T) {
	want := filepath.Join(child.Stubs(t, "pgbouncer-1.25"), "pgbouncer-1.25")
	t.Setenv("DBSCOPE_PGBOUNCER", want)
	if got, err := pgbouncer.Find(); got != want || err != nil {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
}

func TestAVariableThatNamesNoProgramIsRefused(t *testing.T) {
	dir := child.Stubs(t, "pgbouncer")
	for value, says := range map[string]string{
		dir:                           "not a program",
		filepath.Join(dir, "missing"): "not a program",
	} {
		t.Setenv("DBSCOPE_PGBOUNCER", value)
		if _, err := pgbouncer.Find(); err == nil || !strings.Contains(err.Error(), "DBSCOPE_PGBOUNCER is "+value) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v", value, err)
		}
	}
}
