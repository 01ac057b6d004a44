// Package model_test runs random programs on dbscope and on a model of it. A
// failure prints the smallest program that fails, what the model has of it, what
// happened, and how to run it again.
package model_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dbscope/dbscope/internal/mysqltest"
)

// DBSCOPE_LONG=1 runs many programs; -rapid.checks says how many.
const longVariable = "DBSCOPE_LONG"

func TestRandomProgramsOnAFakeDoWhatTheModelSays(t *testing.T) {
	dbs := [2]database{&fake{name: dbNames[0]}, &fake{name: dbNames[1]}}
	compareWithModel(t, &fakeKind, dbs, 10_000, 300_000)
}

func TestRandomProgramsOnSQLiteDoWhatTheModelSays(t *testing.T) {
	dbs := [2]database{openSQLite(t, dbNames[0]), openSQLite(t, dbNames[1])}
	compareWithModel(t, &sqliteKind, dbs, 400, 5_000)
}

func TestRandomProgramsOnPostgreSQLDoWhatTheModelSays(t *testing.T) {
	dbs := [2]database{openPostgres(t, dbNames[0]), openPostgres(t, dbNames[1])}
	compareWithModel(t, &postgresKind, dbs, 400, 5_000)
}

func TestRandomProgramsOnMariaDBDoWhatTheModelSays(t *testing.T) {
	dbs := [2]database{openMariaDB(t, dbNames[0]), openMariaDB(t, dbNames[1])}
	compareWithModel(t, &mariadbKind, dbs, 200, 5_000)
}

func TestRandomProgramsOnMySQLDoWhatTheModelSays(t *testing.T) {
	mysqltest.Have(t)
	dbs := [2]database{openMySQL(t, dbNames[0]), openMySQL(t, dbNames[1])}
	compareWithModel(t, &mariadbKind, dbs, 200, 5_000)
}

func compareWithModel(t *testing.T, k *kind, dbs [2]database, few, many int) {
	if os.Getenv(longVariable) != "" {
		few = many
	}
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		ok(t, checks.Value.Set(strconv.Itoa(few)))
		defer func() { ok(t, checks.Value.Set(checks.DefValue)) }()
	}
	programs := newGenerator(k).programs()
	rapid.Check(t, func(t *rapid.T) {
		p := programs.Draw(t, "program")
		want := (&model{kind: k, first: true}).program(p)
		for _, db := range dbs {
			db.begin()
		}
		got := (&reality{dbs}).program(t.Context(), p)
		var stored [2][]int
		for i, db := range dbs {
			stored[i] = db.stored(t)
			slices.Sort(stored[i])
		}
		wrong := ""
		for _, m := range k.models(p, got) { // it need be one of them
			want = m.program(p)
			if wrong = m.compare(got, want, stored); wrong == "" {
				break
			}
		}
		for i, db := range dbs {
			if wrong == "" && !isIdle(t, db) {
				wrong = dbNames[i] + " has connections in use"
			}
		}
		if wrong != "" {
			t.Fatalf("%s\n%v\nin the model:\n%v\nin reality:\n%v", wrong, p, want, got)
		}
	})
}

// models are those of all that chance may have decided.
func (k *kind) models(p *program, got *trace) (all []*model) {
	for order := range p.orders() {
		for _, cuts := range variants(got.cuts()) {
			all = append(all, &model{kind: k, order: order, cuts: cuts})
		}
	}
	return all
}

// compare says where reality parts from the model, or nothing.
func (m *model) compare(got, want *trace, stored [2][]int) string {
	if wrong := compare(got, want); wrong != "" {
		return wrong
	}
	if m.unfounded {
		return "functions of a Group were cancelled, and none had failed"
	}
	for i := range m.dbs {
		slices.Sort(m.dbs[i].stored)
		if !slices.Equal(stored[i], m.dbs[i].stored) {
			return fmt.Sprintf("%s stores %v, want %v", dbNames[i], stored[i], m.dbs[i].stored)
		}
	}
	return ""
}

// isIdle reports whether all connections are back. pgxpool closes lost ones in
// the background.
func isIdle(t failer, db database) bool {
	for range 1000 {
		if db.inUse(t) == 0 {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}
