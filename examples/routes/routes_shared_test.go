package main

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/scopetest"
)

// Here each test is one transaction that is rolled back: one database, whose
// table stays empty, is enough for all.

// throughThePool is the route that does not only use scopes: one of its rows
// goes through the pool, and so past the test's transaction. On SQLite it meets
// the test's write lock; on PostgreSQL it is stored, which the test sees, and
// stays.
const throughThePool = "concurrent_queries"

func TestR16R19EachRouteLeavesTheRowsOfTheReferenceInASharedTransaction(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		db := sqlscope.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(t.TempDir(), "routes.db"))+
			"?_txlock=immediate&_pragma=busy_timeout(100)&_pragma=journal_mode(WAL)")
		eachShared(t, db, routeTest{throughThePool, 500, "locked", 3}, 0)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		db := open(pgtest.Shared(t).CreateDatabase(t), "")
		eachShared(t, db, routeTest{throughThePool, 200, "", 5}, 1)
	})
}

// eachShared expects the rows of the reference but for one route, which leaves
// some for good.
func eachShared(t *testing.T, db *sqlscope.DB, other routeTest, stay int64) {
	t.Cleanup(func() { closeDB(t, db) })
	if err := createSchema(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	for _, want := range reference {
		stayed := int64(0)
		if want.route == throughThePool {
			want, stayed = other, stay
		}
		t.Run(want.route, func(t *testing.T) {
			server := scopetest.Serve(t, newHandler(db), db)
			quiet(server.Server)
			if n := scopetest.Count(server.Context, db, "example"); n != 0 { // the lock is taken now
				t.Errorf("there are %d rows before", n)
			}
			check(t, server.URL, want)
			if n := scopetest.Count(server.Context, db, "example"); n != want.rows {
				t.Errorf("the test counts %d rows, want %d", n, want.rows)
			}
		})
		if n := takeAll(t, db); n != stayed {
			t.Errorf("%s: %d rows are there after the test, want %d", want.route, n, stayed)
		}
	}
}

// takeAll deletes what is stored, and returns how many rows that was.
func takeAll(t *testing.T, db *sqlscope.DB) (n int64) {
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		res, err := db.ExecContext(ctx, `delete from example`)
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
