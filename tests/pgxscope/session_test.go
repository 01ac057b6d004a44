package pgxscope_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

var errStop = errors.New("stop")

func onEachMode(t *testing.T, test func(t *testing.T, d *opened), opts ...dbscope.DBOption) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) { test(t, open(t, mode, opts...)) })
	}
}

// statements are ways to run an INSERT of an id into a table; each can be the
// first of a unit.
var statements = map[string]func(ctx context.Context, db *pgxscope.DB, table string, id int) error{
	"Exec": func(ctx context.Context, db *pgxscope.DB, table string, id int) error {
		_, err := db.Exec(ctx, "INSERT INTO "+table+" (id) VALUES ($1)", id)
		return err
	},
	"Exec without arguments": func(ctx context.Context, db *pgxscope.DB, table string, id int) error {
		_, err := db.Exec(ctx, "INSERT INTO "+table+" (id) VALUES ("+itoa(id)+"); SELECT 1")
		return err
	},
	"Exec with an option": func(ctx context.Context, db *pgxscope.DB, table string, id int) error {
		_, err := db.Exec(ctx, "INSERT INTO "+table+" (id) VALUES ($1)", pgx.QueryExecModeExec, id)
		return err
	},
	"Exec with named arguments": func(ctx context.Context, db *pgxscope.DB, table string, id int) error {
		_, err := db.Exec(ctx, "INSERT INTO "+table+" (id) VALUES (@id)", pgx.NamedArgs{"id": id})
		return err
	},
	"Query": func(ctx context.Context, db *pgxscope.DB, table string, id int) error {
		rows, err := db.Query(ctx, "INSERT INTO "+table+" (id) VALUES ($1) RETURNING id", id)
		if err != nil {
			return err
		}
		got, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
		if err == nil && got != id {
			err = errors.New("another id came back")
		}
		return err
	},
	"QueryRow": func(ctx context.Context, db *pgxscope.DB, table string, id int) error {
		return db.QueryRow(ctx, "INSERT INTO "+table+" (id) VALUES ($1) RETURNING id", id).Scan(&id)
	},
	"SendBatch": func(ctx context.Context, db *pgxscope.DB, table string, id int) error {
		b := &pgx.Batch{}
		b.Queue("SELECT $1::int", id).QueryRow(func(row pgx.Row) error { return row.Scan(&id) })
		b.Queue("INSERT INTO "+table+" (id) VALUES ($1)", id)
		return db.SendBatch(ctx, b).Close()
	},
	"CopyFrom": func(ctx context.Context, db *pgxscope.DB, table string, id int) error {
		_, err := db.CopyFrom(ctx, pgx.Identifier{table}, []string{"id"}, pgx.CopyFromRows([][]any{{int32(id)}}))
		return err
	},
	"Prepare": func(ctx context.Context, db *pgxscope.DB, table string, id int) error {
		tx, err := db.Session(ctx)
		if err != nil {
			return err
		}
		if _, err := tx.Prepare(ctx, "mine_"+table, "INSERT INTO "+table+" (id) VALUES ($1)"); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "mine_"+table, id)
		return err
	},
	"Conn": func(ctx context.Context, db *pgxscope.DB, table string, id int) error {
		tx, err := db.Session(ctx)
		if err != nil {
			return err
		}
		_, err = tx.Conn().Exec(ctx, "INSERT INTO "+table+" (id) VALUES ($1)", id)
		return err
	},
	"nested Begin": func(ctx context.Context, db *pgxscope.DB, table string, id int) error {
		tx, err := db.Session(ctx)
		if err != nil {
			return err
		}
		nested, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := nested.Exec(ctx, "INSERT INTO "+table+" (id) VALUES ($1)", id); err != nil {
			return errors.Join(err, nested.Rollback(ctx))
		}
		return nested.Commit(ctx)
	},
	"SQL": func(ctx context.Context, db *pgxscope.DB, table string, id int) error {
		_, err := db.SQL().ExecContext(ctx, "INSERT INTO "+table+" (id) VALUES ($1)", id)
		return err
	},
	"SQL, joining": func(ctx context.Context, db *pgxscope.DB, table string, id int) error {
		tx, err := db.SQL(sqlscope.JoinBegin()).BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO "+table+" (id) VALUES ($1)", id)
		return errors.Join(err, tx.Commit())
	},
}

func TestEachKindOfStatementCanBeTheFirstOrALaterOneOfAUnit(t *testing.T) {
	onEachMode(t, func(t *testing.T, d *opened) {
		id := 0
		var stored []int
		for kind, statement := range statements {
			for _, end := range []error{nil, errStop} {
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					for range 2 {
						id++
						if err := statement(ctx, d.DB, "t", id); err != nil {
							t.Fatalf("%s: %v", kind, err)
						}
					}
					return end
				})
				is(t, err, end)
				if end == nil {
					stored = append(stored, id-1, id)
				}
			}
		}
		want(t, "stored", d.stored(t), stored...)
	})
}

// The trap: a first statement that fails while it is prepared leaves the server
// outside any transaction, and what follows would be stored on its own.
func TestAFirstStatementThatFailsLeavesNothingThatALaterOneCouldRunIn(t *testing.T) {
	onEachMode(t, func(t *testing.T, d *opened) {
		for kind, statement := range statements {
			if kind == "Conn" || kind == "nested Begin" {
				continue // the scope does not see the one, the other is undone alone
			}
			for _, table := range []string{"nowhere", "t"} { // fails to prepare, and to execute
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					return errors.Join(insert(ctx, d, 1), d.Commit(ctx))
				}))
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					if err := statement(ctx, d.DB, table, 1); err == nil {
						t.Errorf("%s into %s did not fail", kind, table)
					}
					for later, statement := range statements {
						if later == "Conn" {
							continue // it is nil
						}
						if err := statement(ctx, d.DB, "t", 2); err == nil {
							t.Errorf("%s failed, and %s after it did not", kind, later)
						}
					}
					return nil
				})
				is(t, err, dbscope.ErrRolledBack)
				want(t, "stored after "+kind, d.stored(t), 1)
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					_, err := d.Exec(ctx, "DELETE FROM t")
					return err
				}))
			}
		}
	})
}

func TestSQLTextThatControlsTheTransactionIsRefused(t *testing.T) {
	d := open(t, pgx.QueryExecModeCacheStatement)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, insert(ctx, d, 1))
		tx, err := d.Session(ctx)
		ok(t, err)
		for _, text := range []string{
			"COMMIT", "rollback and chain", "commit and chain", "COMMIT; BEGIN", "begin",
			"SELECT 1; COMMIT", "SELECT 1; COMMIT AND CHAIN", "SELECT ';'; ROLLBACK; BEGIN", "/* /* */ */ COMMIT", "\fCOMMIT", "-- \rCOMMIT",
			"SELECT $$'$$; COMMIT -- '", "RELEASE SAVEPOINT dbscope_1",
		} {
			_, err := d.Exec(ctx, text)
			is(t, err, dbscope.ErrOpenTransaction)
			_, err = d.Query(ctx, text)
			is(t, err, dbscope.ErrOpenTransaction)
			is(t, d.QueryRow(ctx, text).Scan(), dbscope.ErrOpenTransaction)
			_, err = tx.Prepare(ctx, "p", text)
			is(t, err, dbscope.ErrOpenTransaction)
			b := &pgx.Batch{}
			b.Queue("SELECT 1")
			b.Queue(text)
			is(t, d.SendBatch(ctx, b).Close(), dbscope.ErrOpenTransaction)
		}
		b := &pgx.Batch{}
		b.BeginTx(pgx.TxOptions{})
		is(t, d.SendBatch(ctx, b).Close(), dbscope.ErrOpenTransaction)
		return nil
	}))
	want(t, "stored", d.stored(t), 1)
}

func TestARefusedCommitIsRolledBackAndKeepsItsConnection(t *testing.T) {
	onEachMode(t, func(t *testing.T, d *opened) {
		for range 2 {
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				_, err := d.Exec(ctx, "INSERT INTO t (id, parent) VALUES (1, 99)")
				return err
			})
			is(t, err, dbscope.ErrRolledBack)
			var refused *pgconn.PgError
			if !errors.As(err, &refused) || refused.Code != "23503" {
				t.Errorf("the error is %v", err)
			}
		}
		want(t, "stored", d.stored(t))
		if n := d.dialed.Load(); n != 1 {
			t.Errorf("%d connections were made", n)
		}
	})
}

func TestAStatementCancelledOnItsWayFailsTheCommitWithTheCause(t *testing.T) {
	onEachMode(t, func(t *testing.T, d *opened) {
		pool, err := d.Pool(t.Context())
		ok(t, err)
		gone := errors.New("the client went away")
		ctx, cancel := context.WithCancelCause(t.Context())
		err = dbscope.Run(ctx, func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			go func() {
				drivertest.Eventually(t, "the statement runs", func() bool {
					var n int
					err := pool.QueryRow(context.Background(), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid() AND datname = current_database()").Scan(&n)
					return err == nil && n == 1
				})
				cancel(gone)
			}()
			_, err := d.Exec(ctx, "SELECT pg_sleep(60)")
			is(t, err, gone)
			is(t, insert(context.WithoutCancel(ctx), d, 2), dbscope.ErrRolledBack)
			return nil
		})
		is(t, err, dbscope.ErrRolledBack)
		is(t, err, gone)
		want(t, "stored", d.stored(t))
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 3) }))
	})
}

func TestWithoutAScopeStatementsAreRefusedOrGoToThePool(t *testing.T) {
	d := open(t, pgx.QueryExecModeCacheStatement)
	for kind, statement := range statements {
		err := statement(t.Context(), d.DB, "t", 1)
		if !errors.Is(err, dbscope.ErrNoScope) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	d = open(t, pgx.QueryExecModeCacheStatement, dbscope.AllowUnscoped())
	var stored []int
	for i, kind := range []string{"Exec", "Query", "QueryRow", "SendBatch", "CopyFrom", "SQL", "SQL, joining"} {
		if err := statements[kind](t.Context(), d.DB, "t", i); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if n := d.inUse(t); n != 0 {
			t.Errorf("%s: %d connections are in use", kind, n)
		}
		stored = append(stored, i)
	}
	want(t, "stored", d.stored(t), stored...)
}

func TestBatchesAreReadInEveryWay(t *testing.T) {
	onEachMode(t, func(t *testing.T, d *opened) {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			for range 2 { // with BEGIN, and without
				b := &pgx.Batch{}
				b.Queue("SELECT * FROM generate_series(1, $1::int)", 3)
				b.Queue("SELECT $1::int", 4)
				b.Queue("SELECT 1 WHERE $1::bool", true)
				b.Queue("SELECT $1::int", 5)
				res := d.SendBatch(ctx, b)
				rows, err := res.Query()
				ok(t, err)
				ids, err := pgx.CollectRows(rows, pgx.RowTo[int])
				ok(t, err)
				want(t, "rows", ids, 1, 2, 3)
				var n int
				ok(t, res.QueryRow().Scan(&n))
				tag, err := res.Exec()
				ok(t, err)
				if n != 4 || tag.String() != "SELECT 1" {
					t.Errorf("got %d and %s", n, tag)
				}
				is(t, insert(ctx, d, 1), dbscope.ErrSessionBusy)
				ok(t, res.Close())
				ok(t, res.Close())
			}
			return nil
		}))
	})
}

func TestABatchThatIsLeftOpenIsClosedByTheEnd(t *testing.T) {
	onEachMode(t, func(t *testing.T, d *opened) {
		var left pgx.BatchResults
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			b := &pgx.Batch{}
			b.Queue("INSERT INTO t (id) VALUES ($1)", 1)
			left = d.SendBatch(ctx, b)
			return nil
		}))
		is(t, left.Close(), dbscope.ErrScopeEnded)
		want(t, "stored", d.stored(t), 1)
	})
}

func TestLargeObjectsBelongToTheTransaction(t *testing.T) {
	d := open(t, pgx.QueryExecModeCacheStatement)
	for _, end := range []error{errStop, nil} {
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			tx, err := d.Session(ctx)
			ok(t, err)
			objects := tx.LargeObjects()
			oid, err := objects.Create(ctx, 0)
			ok(t, err)
			object, err := objects.Open(ctx, oid, pgx.LargeObjectModeWrite)
			ok(t, err)
			_, err = io.WriteString(object, "some text")
			ok(t, err)
			ok(t, object.Close())
			return end
		}), end)
	}
	var n int
	pool, err := d.Pool(t.Context())
	ok(t, err)
	ok(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_largeobject_metadata").Scan(&n))
	if n != 1 {
		t.Errorf("%d large objects are stored", n)
	}
}

func TestAHandleThatIsOverSaysSoInPgxsWords(t *testing.T) {
	d := open(t, pgx.QueryExecModeCacheStatement)
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		tx, err := d.Session(ctx)
		ok(t, err)
		ok(t, insert(ctx, tx, 1))
		ok(t, tx.Commit(ctx))
		is(t, tx.Rollback(ctx), pgx.ErrTxClosed)
		is(t, tx.Commit(ctx), pgx.ErrTxClosed)
		is(t, insert(ctx, tx, 2), pgx.ErrTxClosed)
		return nil
	}))
}

func TestNoRowIsErrNoRowsAndAScanThatFailsHarmsNothing(t *testing.T) {
	onEachMode(t, func(t *testing.T, d *opened) {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			var n int
			for range 2 {
				is(t, d.QueryRow(ctx, "SELECT id FROM t WHERE id = $1", 99).Scan(&n), pgx.ErrNoRows)
			}
			if err := d.QueryRow(ctx, "SELECT 'text'").Scan(&n); err == nil {
				t.Error("a text was scanned into a number")
			}
			return insert(ctx, d, 1)
		}))
		want(t, "stored", d.stored(t), 1)
	})
}

// The core closes it as the block ends, and learns of its failure then.
func TestWhatFailsInABlockAndIsLeftOpenIsUndoneWithTheBlockAlone(t *testing.T) {
	onEachMode(t, func(t *testing.T, d *opened) {
		twice := &pgx.Batch{}
		for range 2 {
			twice.Queue("INSERT INTO t (id) VALUES (5)")
		}
		for name, leave := range map[string]func(context.Context){
			"a batch":              func(ctx context.Context) { d.SendBatch(ctx, twice) },
			"a batch read in part": func(ctx context.Context) { _, _ = d.SendBatch(ctx, twice).Exec() },
			"rows that fail": func(ctx context.Context) {
				_, _ = d.Query(ctx, "SELECT 1 / (9999 - i) FROM generate_series(1, 20000) AS i")
			},
			"a copy, which is closed": func(ctx context.Context) {
				_, _ = d.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"id"}, pgx.CopyFromRows([][]any{{5}, {5}}))
			},
		} {
			for _, begun := range []bool{false, true} {
				if err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					if begun {
						ok(t, insert(ctx, d, 1))
					}
					is(t, d.Atomic(ctx, func(ctx context.Context) error { leave(ctx); return errStop }), errStop)
					ok(t, insert(ctx, d, 2))
					_, err := d.Exec(ctx, "DELETE FROM t WHERE id < 5")
					return err
				}); err != nil {
					t.Errorf("%s, begun %t: %v", name, begun, err)
				}
			}
		}
		want(t, "stored", d.stored(t))
	})
}
