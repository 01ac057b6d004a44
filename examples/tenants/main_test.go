package main

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/internal/pgtest"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // some requests are meant to fail
	os.Exit(pgtest.Main(m).Run())
}

func TestTenantsAreKeptApartAndNothingRunsWithoutOne(t *testing.T) {
	t.Setenv("DATABASE_URL", pgtest.Shared(t).CreateDatabase(t))
	var out bytes.Buffer
	if err := run(t.Context(), nil, &out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{
		"\n  GET           as \"ada\": 200 ada: buy tea\n",
		"\n  GET           as \"bob\": 200 bob: sell tea\n",
		"\n  GET           as \"\": 401 log in first\n",
		"\n  POST whose?   as \"\": 401 log in first\n",
		"\n  a job: dbscope: notes: the settings of the transaction: the context names no tenant\n",
		"\n  a job that ignores the error: dbscope: commit failed: notes: rolled back",
		"\n  0 notes\n",
		"violates row-level security policy",
		"\n  GET           as \"ada', true), set_config('role', 'none\": 200 \n",
		"\n  after an early commit  [\"ada: buy tea\"]\n",
		"\n  in bob's name          [\"bob: sell tea\"]\n",
		"\n  ada's unit: done\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not print %q", want)
		}
	}
	stored := pgtest.Shared(t).Query(t, os.Getenv("DATABASE_URL"), "SELECT tenant, text FROM tenants_example ORDER BY id")
	if stored != "ada|buy tea\nbob|sell tea" {
		t.Errorf("stored is %q", stored)
	}
	if t.Failed() {
		t.Log(text)
	}
}
