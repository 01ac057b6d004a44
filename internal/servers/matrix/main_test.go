package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/internal/child"
)

// onBouncers runs the matrix on stubs, with a go command that prints this and exits so.
func onBouncers(t *testing.T, short bool, prints, exits string) (table string, err error) {
	t.Helper()
	dir := filepath.Join(child.Stubs(t, "pgbouncer-9.9/pgbouncer"), "pgbouncer-9.9")
	if err := os.WriteFile(filepath.Join(dir, "pgbouncer"), []byte("#!/bin/sh\necho $0 version 1.2.3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\ncat <<'E'\n" + prints + "\nE\nexit " + exits + "\n"
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("DBSCOPE_PGBOUNCER", filepath.Join(dir, "pgbouncer"))
	t.Chdir(t.TempDir())
	var out strings.Builder
	err = run(&out, choice{server: "PgBouncer of the system", short: short}, false)
	return out.String(), err
}

func TestTheTableCountsTheTestsOfEachSuite(t *testing.T) {
	table, err := onBouncers(t, false, "=== RUN   TestA\n    --- PASS: TestA/b (0.00s)\n--- PASS: TestA (0.00s)\n--- SKIP: TestC (0.00s)\nok  \tx\t0.1s", "0")
	if err != nil || strings.Count(table, "| PgBouncer of the system | 1.2.3 | pgxscope | passed | 2 | 1 |") != 1 {
		t.Errorf("error %v, table:\n%s", err, table)
	}
	if !strings.HasPrefix(table, "Whole, on ") {
		t.Errorf("it does not say what was run:\n%s", table)
	}
}

func TestTheTableSaysThatAPartWasRun(t *testing.T) {
	table, err := onBouncers(t, true, "--- PASS: TestA (0.00s)", "0")
	if err != nil || !strings.HasPrefix(table, "A small part, on ") {
		t.Errorf("error %v, table:\n%s", err, table)
	}
}

func TestASuiteThatFailsIsCounted(t *testing.T) {
	table, err := onBouncers(t, false, "--- PASS: TestA (0.00s)\n--- FAIL: TestB (0.00s)\nFAIL\tx\t0.1s", "1")
	if err == nil || !strings.Contains(table, "| pgxscope | **failed**: TestB | 1 | 0 |") {
		t.Errorf("error %v, table:\n%s", err, table)
	}
	table, err = onBouncers(t, false, "FAIL\tx [build failed]", "1")
	if err == nil || !strings.Contains(table, "| pgxscope | **failed**: exit status 1 | 0 | 0 |") {
		t.Errorf("error %v, table:\n%s", err, table)
	}
}

// A pattern that no test has any more would pass for ever.
func TestASuiteThatRunsNothingHasFailed(t *testing.T) {
	for _, prints := range []string{"ok  \tx\t0.1s [no tests to run]", "--- SKIP: TestA (0.00s)\nok  \tx\t0.1s"} {
		table, err := onBouncers(t, false, prints, "0")
		if err == nil || !strings.Contains(table, "**failed**: no test ran") {
			t.Errorf("error %v, table:\n%s", err, table)
		}
	}
}

func TestAServerThatCannotBeHadHasFailed(t *testing.T) {
	t.Chdir(t.TempDir())
	var out strings.Builder
	if err := run(&out, choice{server: "PostgreSQL 18"}, false); err == nil || !strings.Contains(out.String(), "| PostgreSQL 18 | not to be had:") {
		t.Errorf("error %v, table:\n%s", err, out.String())
	}
}

func TestServersAndSuitesAreChosenByTheirNames(t *testing.T) {
	for chosen, want := range map[choice]int{
		{}: len(servers), {server: "PostgreSQL"}: 4, {server: "MariaDB"}: 3, {server: "PostgreSQL 17"}: 1, {suite: "pgxscope"}: 6,
		{server: "Oracle"}: 0, {server: "MySQL", suite: "pgxscope"}: 0,
	} {
		var out strings.Builder
		err := run(&out, chosen, true)
		if got := strings.Count(out.String(), "\n"); got != want || (err == nil) != (want > 0) {
			t.Errorf("%+v lists %d, want %d; error %v", chosen, got, want, err)
		}
	}
}
