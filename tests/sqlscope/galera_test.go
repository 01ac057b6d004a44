package sqlscope_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/mariatest"
)

// onNodes returns a DB on each node of a cluster, with a table n of a row for each
// node, and one more. A read sees what was committed before on any node.
func onNodes(t *testing.T, nodes []*mariatest.Server) (dbs []*sqlscope.DB) {
	t.Helper()
	dsn := nodes[0].CreateDatabase(t)
	name := dsn[strings.LastIndex(dsn, "/")+1:]
	nodes[0].Query(t, name, "CREATE TABLE n (id INTEGER PRIMARY KEY, n INTEGER NOT NULL); INSERT INTO n VALUES (0, 0), (1, 0), (2, 0), (3, 0)")
	for _, node := range nodes {
		db := sqlscope.Open("mysql", node.DSN(name)+"?wsrep_sync_wait=1")
		t.Cleanup(func() { ok(t, db.Close()) })
		dbs = append(dbs, db)
	}
	return dbs
}

func increment(ctx context.Context, db *sqlscope.DB, id int) error {
	_, err := db.ExecContext(ctx, fmt.Sprintf("UPDATE n SET n = n + 1 WHERE id = %d", id))
	return err
}

// Nodes learn of each other's writes with the commit: of two units that write to the
// same row on two nodes the one that commits later loses.
func TestOnNodesOfGalera(t *testing.T) {
	nodes := mariatest.StartNodes(t)
	t.Run("the adapter passes the suite", func(t *testing.T) {
		d := databases["MariaDB"]
		d.dsn = func(t *testing.T) string { return nodes[0].CreateDatabase(t) }
		passesTheSuite(t, d)
	})
	dbs := onNodes(t, nodes)
	t.Run("a unit that loses to another node's is rolled back and run again", func(t *testing.T) { losesToAnotherNode(t, dbs) })
	t.Run("a ledger settles a lost commit on another node", func(t *testing.T) { settlesOnAnotherNode(t, nodes) })
	t.Run("units on all nodes are each stored once", func(t *testing.T) { areEachStoredOnce(t, dbs) })
}

func losesToAnotherNode(t *testing.T, dbs []*sqlscope.DB) {
	lose := func(opts ...dbscope.Option) (runs int, err error) {
		err = dbscope.Run(t.Context(), func(ctx context.Context) error {
			runs++
			if err := errors.Join(increment(ctx, dbs[0], 1), increment(ctx, dbs[0], 0)); err != nil || runs > 1 {
				return err
			}
			return dbscope.Run(t.Context(), func(ctx context.Context) error { return increment(ctx, dbs[1], 0) })
		}, opts...)
		return runs, err
	}

	_, err := lose()
	var refusal *mysql.MySQLError
	if !errors.Is(err, dbscope.ErrRolledBack) || !errors.As(err, &refusal) || refusal.Number != 1213 {
		t.Errorf("the unit that loses returns %v", err)
	}
	want(t, "numbers", numbers(t, dbs[2]), 1, 0, 0, 0)

	runs, err := lose(dbscope.Retry(dbscope.RetryPolicy{}))
	ok(t, err)
	want(t, "runs", []int{runs}, 2)
	want(t, "numbers", numbers(t, dbs[2]), 3, 1, 0, 0)
}

// inTurn connects to the nodes in turn, as a balancer does.
type inTurn struct {
	nodes []sqldriver.Connector
	next  atomic.Int64
}

func (i *inTurn) Connect(ctx context.Context) (sqldriver.Conn, error) {
	return i.nodes[int(i.next.Add(1))%len(i.nodes)].Connect(ctx)
}

func (i *inTurn) Driver() sqldriver.Driver { return i.nodes[0].Driver() }

func settlesOnAnotherNode(t *testing.T, nodes []*mariatest.Server) {
	dsn := nodes[0].CreateDatabase(t)
	name := dsn[strings.LastIndex(dsn, "/")+1:]
	nodes[0].Query(t, name, dbscope.LedgerTable+"; CREATE TABLE t (id INTEGER PRIMARY KEY)")
	balancer := &inTurn{}
	for _, node := range nodes {
		config, err := mysql.ParseDSN(node.DSN(name))
		ok(t, err)
		connector, err := mysql.NewConnector(config)
		ok(t, err)
		balancer.nodes = append(balancer.nodes, connector)
	}
	pool := sql.OpenDB(balancer)
	t.Cleanup(func() { ok(t, pool.Close()) })
	f := &faults{}
	db := sqlscope.New(func(context.Context, string) (*sql.DB, error) {
		pool.SetMaxIdleConns(-1) // so that the next one is another node's
		faulty := sql.OpenDB(faultyConnector{pool, f})
		faulty.SetMaxIdleConns(-1)
		return faulty, nil
	}, dbscope.SettleByLedger())
	t.Cleanup(func() { ok(t, db.Close()) })
	other, err := sql.Open("mysql", dsn+"?wsrep_sync_wait=1")
	ok(t, err)
	t.Cleanup(func() { ok(t, other.Close()) })
	for id := range 30 {
		done := id%2 == 0
		before, after := sqldriver.ErrBadConn, error(nil)
		if done {
			before, after = nil, sqldriver.ErrBadConn
		}
		f.at("COMMIT", before, after)
		f.single = "COMMIT" // the ledger's own commit is to work
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			_, err := db.ExecContext(ctx, fmt.Sprintf("INSERT INTO t VALUES (%d)", id))
			return err
		})
		var stored bool
		ok(t, other.QueryRow(fmt.Sprintf("SELECT count(*) > 0 FROM t WHERE id = %d", id)).Scan(&stored))
		if done && err != nil || !done && !errors.Is(err, dbscope.ErrRolledBack) || stored != done {
			t.Errorf("whether it was committed: %v, is stored: %v, returns: %v", done, stored, err)
		}
	}
}

func areEachStoredOnce(t *testing.T, dbs []*sqlscope.DB) {
	before := numbers(t, dbs[0])
	const clients, units = 3, 20 // of each node
	var all sync.WaitGroup
	for i, db := range dbs {
		for range clients {
			all.Go(func() {
				for range units {
					err := dbscope.Run(t.Context(), func(ctx context.Context) error {
						return errors.Join(increment(ctx, db, 1+i), increment(ctx, db, 0))
					}, dbscope.Retry(dbscope.RetryPolicy{Attempts: 1000}))
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	all.Wait()
	for _, db := range dbs {
		want(t, "numbers", numbers(t, db), before[0]+3*clients*units, before[1]+clients*units, before[2]+clients*units, before[3]+clients*units)
	}
}

// numbers are what a node has in the table, by id.
func numbers(t *testing.T, db *sqlscope.DB) (all []int) {
	t.Helper()
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		for id := range 4 {
			var n int
			if err := db.QueryRowContext(ctx, fmt.Sprintf("SELECT n FROM n WHERE id = %d", id)).Scan(&n); err != nil {
				return err
			}
			all = append(all, n)
		}
		return nil
	}, dbscope.ReadOnly()))
	return all
}
