package cluster_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/scopetest"
)

// R12.
func TestAReadOnlyScopeGoesToEachReplicaInTurnAndOthersToThePrimary(t *testing.T) {
	primary := pgtest.Start(t)
	one, two := primary.Standby(t), primary.Standby(t)
	for name, open := range adapters {
		t.Run(name, func(t *testing.T) {
			nodes := cluster.New(cluster.List(hostsOf(one, primary, two)...))
			db := open(dsn, dbscope.Router(nodes))
			defer func() { ok(t, db.Close()) }()
			fresh(t, nodes, 2, db)
			seen := map[string]int{}
			for range 10 {
				host, err := where(t.Context(), db, dbscope.ReadOnly())
				ok(t, err)
				seen[host]++
				host, err = where(t.Context(), db)
				ok(t, err)
				if host != at(primary) || db.Host() != host {
					t.Errorf("a unit that may write ran on %s, and Host is %s", host, db.Host())
				}
			}
			if seen[at(one)] != 5 || seen[at(two)] != 5 {
				t.Errorf("the reads went to %v", seen)
			}
		})
	}
}

// PostgreSQL: "cannot use serializable mode in a hot standby".
func TestASerializableReadOnlyScopeGoesToThePrimary(t *testing.T) {
	primary := pgtest.Start(t)
	standby := primary.Standby(t)
	for name, open := range adapters {
		t.Run(name, func(t *testing.T) {
			nodes := cluster.New(cluster.List(hostsOf(standby, primary)...))
			db := open(dsn, dbscope.Router(nodes))
			defer func() { ok(t, db.Close()) }()
			fresh(t, nodes, 1, db)
			for level, want := range map[sql.IsolationLevel]string{
				sql.LevelRepeatableRead: at(standby), sql.LevelSerializable: at(primary),
			} {
				host, err := where(t.Context(), db, dbscope.ReadOnly(), dbscope.Isolation(level))
				if err != nil || host != want {
					t.Errorf("%v ran on %s, %v, should be on %s", level, host, err, want)
				}
			}
		})
	}
}

func TestAReadOnlyScopeThatWritesIsToldWhichOptionToTakeAway(t *testing.T) {
	primary := pgtest.Shared(t)
	for name, open := range adapters {
		t.Run(name, func(t *testing.T) {
			nodes := cluster.New(cluster.List(at(primary)))
			db := open(dsn, dbscope.Router(nodes))
			defer func() { ok(t, db.Close()) }()
			err := dbscope.Run(t.Context(), func(ctx context.Context) error { return db.exec(ctx, "CREATE TABLE never ()") }, dbscope.ReadOnly())
			if err == nil || !strings.Contains(err.Error(), "postgres: this unit was begun with the option ReadOnly") || !strings.Contains(err.Error(), "25006") {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func TestWithoutAPrimaryWritesFailInTimeAndReadsGoOn(t *testing.T) {
	primary := pgtest.Start(t)
	standby := primary.Standby(t)
	for name, open := range adapters {
		t.Run(name, func(t *testing.T) {
			defer primary.Restart(t)
			nodes := cluster.New(cluster.List(hostsOf(primary, standby)...), cluster.Wait(300*time.Millisecond))
			db := open(dsn, dbscope.Router(nodes))
			defer func() { ok(t, db.Close()) }()
			fresh(t, nodes, 1, db)
			primary.Kill()
			eventually(t, "a write that finds no primary", func() bool {
				_, err := where(t.Context(), db)
				return errors.Is(err, cluster.ErrNoPrimary) &&
					strings.Contains(err.Error(), at(standby)+" is a replica") && strings.Contains(err.Error(), "refused")
			})
			for range 10 {
				host, err := where(t.Context(), db, dbscope.ReadOnly())
				ok(t, err)
				if host != at(standby) {
					t.Errorf("the read went to %s", host)
				}
			}
		})
	}
}

func TestWritesFollowAPromotion(t *testing.T) {
	for name, open := range adapters {
		t.Run(name, func(t *testing.T) {
			primary := pgtest.Start(t)
			standby := primary.Standby(t)
			nodes := cluster.New(cluster.List(hostsOf(primary, standby)...))
			db := open(dsn, dbscope.Router(nodes))
			defer func() { ok(t, db.Close()) }()
			ok(t, write(t.Context(), db, "CREATE TABLE promoted (n int)"))
			fresh(t, nodes, 1, db)
			arrived(t, standby, "promoted")
			primary.Kill()
			standby.Query(t, standby.DSN("postgres"), "SELECT pg_promote()")
			eventually(t, "a write on the new primary", func() bool {
				return write(t.Context(), db, "INSERT INTO promoted VALUES (1)") == nil
			})
			if db.Host() != at(standby) {
				t.Errorf("the host is %s", db.Host())
			}
			// The old one comes back as if nothing had happened.
			primary.Restart(t)
			eventually(t, "the old primary answers", func() bool {
				return slices.ContainsFunc(nodes.Nodes(), func(n cluster.Node) bool { return n.Host == at(primary) && n.Err == nil && n.Primary })
			})
			for range 20 {
				if host, err := where(t.Context(), db); err != nil || host != at(standby) {
					t.Fatalf("a unit that writes ran on %s, %v", host, err)
				}
			}
		})
	}
}

// R16.
func TestInATestReplicasAreTheTestsOwnConnection(t *testing.T) {
	primary := pgtest.Start(t)
	standby := primary.Standby(t)
	primary.Query(t, primary.DSN("postgres"), "CREATE TABLE shared (n int)")
	for name, open := range adapters {
		t.Run(name, func(t *testing.T) {
			nodes := cluster.New(cluster.List(hostsOf(primary, standby)...))
			db := open(dsn, dbscope.Router(nodes))
			t.Cleanup(func() { ok(t, db.Close()) })
			fresh(t, nodes, 1, db)
			ctx := scopetest.Rollback(t, db)
			ok(t, write(ctx, db, "INSERT INTO shared VALUES (1)"))
			ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
				if n, err := db.text(ctx, "SELECT count(*)::text FROM shared"); err != nil || n != "1" {
					t.Errorf("a read-only unit sees %s rows, %v", n, err)
				}
				return nil
			}, dbscope.ReadOnly()))
		})
	}
}
