package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/bench/service/stage"
	"github.com/dbscope/dbscope/bench/service/subject"
	"github.com/dbscope/dbscope/internal/check"
)

var ok = check.OK

func TestMain(m *testing.M) {
	stage.ServeIfAsked()
	os.Exit(m.Run())
}

func TestTheProgramPrintsHeaps(t *testing.T) {
	var out bytes.Buffer
	ok(t, run([]string{"-cells", "^mixed/observed", "-clients", "2", "-rate", "200", "-duration", "300ms", "-heap", "100ms"}, &out))
	for _, text := range []string{"heap, kB", "observed pgxscope  0s", "observed pgxscope  300ms", "observed pgxscope answered"} {
		if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), strings.Join(strings.Fields(text), " ")) {
			t.Errorf("%q is not in\n%s", text, out.String())
		}
	}
}

func TestTheProgramPrintsWhatWasAskedForAndWhatItIsComparedWith(t *testing.T) {
	var out bytes.Buffer
	file := filepath.Join(t.TempDir(), "rounds.csv")
	program, err := os.Executable()
	ok(t, err)
	ok(t, run([]string{"-cells", "^read/pgxscope$", "-clients", "1,2", "-rounds", "1", "-duration", "10ms", "-out", file, "-before", program}, &out))
	for _, text := range []string{
		"postgres, read, 1 clients, 16 connections", "postgres, read, 2 clients, 16 connections",
		"pgx by hand", "pgxscope, before", "pgxscope against before",
	} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("%q is not in\n%s", text, out.String())
		}
	}
	stored, err := os.Open(file)
	ok(t, err)
	rounds, err := stage.ReadCSV(stored)
	ok(t, err)
	ok(t, stored.Close())
	if want := 2 * len([]string{"pgx by hand", "pgxscope", "pgxscope, before"}); len(rounds) != want {
		t.Errorf("%d rounds were stored, not %d", len(rounds), want)
	}
}

func TestASubjectIsMeasuredBesideTheSameByHand(t *testing.T) {
	for pattern, want := range map[string][]string{
		"write/sqlscope$":        {"pgx by hand", "database/sql by hand", "sqlscope"},
		"write/GORM over":        {"pgx by hand", "GORM by hand", "GORM over SQL()"},
		"write/pgx by hand":      {"pgx by hand"},
		"write/pgxscope, ":       {"pgx by hand", subject.ExecCommit},
		"read/pgxscope, Await":   nil,
		"write/there is no such": nil,
	} {
		got := selected(subject.Postgres, "write", regexp.MustCompile(pattern), false)
		check.Equal(t, pattern, got, want...)
	}
}
