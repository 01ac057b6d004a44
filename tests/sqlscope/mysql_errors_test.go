package sqlscope_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// number returns the server's number of an error.
func number(err error) uint16 {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number
	}
	return 0
}

func numbered(t *testing.T, err error, want uint16) {
	t.Helper()
	if number(err) != want {
		t.Fatalf("error is %v, want number %d", err, want)
	}
}

func set(ctx context.Context, to execer, id int) error {
	_, err := to.ExecContext(ctx, "UPDATE t SET parent = NULL WHERE id = $1", id)
	return err
}

const setOne = "UPDATE t SET parent = NULL WHERE id = 1"

// deadlock makes two units lock the rows 1 and 2, each in its own order. The one
// of the test waits first, and has more to lose, so MariaDB undoes the other,
// which inserts id; last is its statement for the row 1.
func deadlock(t *testing.T, d *opened, id int, last string, after func(ctx context.Context, err error) error, opts ...dbscope.Option) error {
	t.Helper()
	tx, err := d.other.Begin()
	ok(t, err)
	for i := 1000; i < 1020; i++ {
		ok(t, insert(t.Context(), tx, i))
	}
	ok(t, set(t.Context(), tx, 1))
	waited := make(chan error)
	attempts := 0
	run := func(ctx context.Context) error {
		_, err := d.ExecContext(ctx, last)
		return err
	}
	unit := func(ctx context.Context) error {
		ok(t, insert(ctx, d, id))
		if attempts++; attempts > 1 {
			return after(ctx, run(ctx))
		}
		ok(t, set(ctx, d, 2))
		go func() { waited <- errors.Join(set(t.Context(), tx, 2), tx.Rollback()) }()
		d.waits(t)
		return after(ctx, run(ctx))
	}
	err = dbscope.Run(t.Context(), unit, opts...)
	ok(t, <-waited)
	return err
}

func TestADeadlockOnMariaDBAndMySQLUndoesTheUnitAlsoWhereItIgnoresTheError(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		d := p.on(t, p.shared(t), "")
		ok(t, insert(t.Context(), d.other, 1))
		ok(t, insert(t.Context(), d.other, 2))
		err := deadlock(t, d, 3, setOne, func(ctx context.Context, err error) error {
			numbered(t, err, 1213)
			is(t, insert(ctx, d, 4), dbscope.ErrRolledBack)
			return nil
		})
		is(t, err, dbscope.ErrRolledBack)
		numbered(t, err, 1213)
		want(t, "stored", d.stored(t), 1, 2)

		_, err = d.other.Exec("CREATE PROCEDURE p() " + setOne) // which commits nothing, as CALL could
		ok(t, err)
		for last, id := range map[string]int{setOne: 4, "CALL p()": 5} {
			ok(t, deadlock(t, d, id, last, func(_ context.Context, err error) error { return err }, dbscope.Retry(dbscope.RetryPolicy{})))
		}
		want(t, "stored by the second attempts", d.stored(t), 1, 2, 4, 5)

		err = deadlock(t, d, 6, setOne, func(ctx context.Context, err error) error {
			return d.Atomic(ctx, func(context.Context) error { return err })
		})
		numbered(t, err, 1213)
		want(t, "stored", d.stored(t), 1, 2, 4, 5)
		if n := d.dialed.Load(); n != 1 {
			t.Errorf("%d connections were made", n)
		}
	})
}

func TestADeadlockInABlockOnMariaDBAndMySQLUndoesTheWholeUnit(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		d := p.on(t, p.shared(t), "")
		ok(t, insert(t.Context(), d.other, 1))
		ok(t, insert(t.Context(), d.other, 2))
		err := dbscope.Run(t.Context(), func(outer context.Context) error {
			ok(t, insert(outer, d, 3))
			_ = d.Atomic(outer, func(ctx context.Context) error {
				tx, err := d.other.Begin()
				ok(t, err)
				for i := 1000; i < 1020; i++ {
					ok(t, insert(ctx, tx, i))
				}
				ok(t, set(ctx, tx, 1))
				ok(t, set(ctx, d, 2))
				waited := make(chan error)
				go func() { waited <- errors.Join(set(outer, tx, 2), tx.Rollback()) }()
				d.waits(t)
				err = set(ctx, d, 1)
				numbered(t, err, 1213)
				ok(t, <-waited)
				return err
			}) // and the unit goes on as if the block had been undone alone
			is(t, insert(outer, d, 4), dbscope.ErrRolledBack)
			return nil
		})
		is(t, err, dbscope.ErrRolledBack)
		want(t, "stored", d.stored(t), 1, 2)
	})
}

func TestALockWaitTimeoutOnMariaDBAndMySQLUndoesWhatTheServerSaysItDoes(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		for name, server := range map[string]func(*testing.T) mysqlServer{
			"the statement": func(t *testing.T) mysqlServer { return p.shared(t) },
			"the transaction": func(t *testing.T) mysqlServer {
				return p.start(t, "innodb_rollback_on_timeout = ON")
			},
		} {
			t.Run(name, func(t *testing.T) {
				d := p.on(t, server(t), "innodb_lock_wait_timeout=1")
				holder, err := d.other.Begin()
				ok(t, err)
				ok(t, insert(t.Context(), holder, 1))
				err = dbscope.Run(t.Context(), func(ctx context.Context) error {
					ok(t, insert(ctx, d, 2))
					numbered(t, insert(ctx, d, 1), 1205)
					err := insert(ctx, d, 3)
					if name == "the statement" {
						ok(t, err)
					} else {
						is(t, err, dbscope.ErrRolledBack)
					}
					return nil
				})
				if name == "the statement" {
					ok(t, err)
					want(t, "stored", d.stored(t), 2, 3)
				} else {
					is(t, err, dbscope.ErrRolledBack)
					want(t, "stored", d.stored(t))
				}
				attempts := 0
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					if attempts++; attempts == 2 {
						ok(t, holder.Rollback())
					}
					return errors.Join(insert(ctx, d, 4), insert(ctx, d, 1))
				}, dbscope.Retry(dbscope.RetryPolicy{})))
				if attempts != 2 {
					t.Errorf("%d attempts", attempts)
				}
			})
		}
	})
}

func TestAConflictOfSnapshotsOnMariaDBIsRetried(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		if p.mysql {
			t.Skip("it has no such conflicts")
		}
		d := p.on(t, p.shared(t), "innodb_snapshot_isolation=ON")
		ok(t, insert(t.Context(), d.other, 1))
		attempts := 0
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, insert(ctx, d, 2))
			ok(t, d.QueryRowContext(ctx, "SELECT count(*) FROM t").Scan(new(int)))
			if attempts++; attempts == 1 {
				_, err := d.other.Exec("UPDATE t SET parent = 1 WHERE id = 1")
				ok(t, err)
				numbered(t, set(ctx, d, 1), 1020)
				return nil // and the commit tells, for the transaction is undone
			}
			return set(ctx, d, 1)
		}, dbscope.Retry(dbscope.RetryPolicy{})))
		if attempts != 2 {
			t.Errorf("%d attempts", attempts)
		}
		want(t, "stored", d.stored(t), 1, 2)
	})
}

func TestAStatementThatIsKilledOnMariaDBAndMySQLIsUndoneAlone(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		d := p.on(t, p.shared(t), "")
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			var id int
			ok(t, d.QueryRowContext(ctx, "SELECT connection_id()").Scan(&id))
			go func() {
				d.running(t)
				_, err := d.other.Exec("KILL QUERY " + strconv.Itoa(id))
				if err != nil {
					t.Error(err)
				}
			}()
			_, err := d.ExecContext(ctx, d.slow())
			numbered(t, err, 1317)
			return insert(ctx, d, 2)
		}))
		want(t, "stored", d.stored(t), 1, 2)
	})
}

func TestWhatAServerThatIsReadOnlyRefuses(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		primary := p.start(t)
		primary.Query(t, "", "CREATE DATABASE testshop; CREATE TABLE testshop.t (id INTEGER PRIMARY KEY)")
		replica := p.replica(t, primary)
		for name, c := range map[string]struct {
			dsn    string
			opts   []dbscope.Option
			number uint16
		}{
			"a read-only scope": {primary.DSN("testshop"), []dbscope.Option{dbscope.ReadOnly()}, 1792},
			"a replica":         {replica.DSN("testshop"), nil, 1290},
		} {
			t.Run(name, func(t *testing.T) {
				d := overSQL{sqlscope.Open("mysql with $1", c.dsn)}
				defer func() { ok(t, d.Close()) }()
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					err := insert(ctx, d, 1)
					numbered(t, err, c.number)
					if says := strings.Contains(err.Error(), "begun with the option ReadOnly"); says != (len(c.opts) > 0) {
						t.Errorf("the error is %v", err)
					}
					return d.QueryRowContext(ctx, "SELECT count(*) FROM t").Scan(new(int))
				}, c.opts...))
			})
		}
	})
}

func TestACommitThatMariaDBRefusesIsToldAndNotRetried(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		s := p.start(t)
		d := p.on(t, s, "")
		attempts := 0
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			attempts++
			ok(t, insert(ctx, d, 1))
			s.Query(t, "", "SET GLOBAL read_only = ON")
			return nil
		}, dbscope.Retry(dbscope.RetryPolicy{}))
		is(t, err, dbscope.ErrRolledBack)
		numbered(t, err, 1290)
		if errors.Is(err, dbscope.ErrCommitUnknown) || attempts != 1 {
			t.Errorf("%d attempts, then %v", attempts, err)
		}
		s.Query(t, "", "SET GLOBAL read_only = OFF")
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 2) }))
		want(t, "stored", d.stored(t), 2)
		if n := d.dialed.Load(); n != 1 {
			t.Errorf("%d connections were made", n)
		}
	})
}

// The driver's own Commit takes no context, and would wait.
func TestACommitThatHangsOnMariaDBAndMySQLIsUnknownInTime(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		s := p.start(t)
		d := p.on(t, s, "")
		admin, err := sql.Open("mysql", strings.Replace(s.DSN(""), "app@", "root@", 1))
		ok(t, err)
		defer func() { ok(t, admin.Close()) }()
		lock, err := admin.Conn(t.Context())
		ok(t, err)
		start := time.Now()
		err = dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			_, err := lock.ExecContext(ctx, "FLUSH TABLES WITH READ LOCK")
			return err
		}, dbscope.CommitTimeout(200*time.Millisecond))
		is(t, err, dbscope.ErrCommitUnknown)
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("it took %v", took)
		}
		_, err = lock.ExecContext(t.Context(), "UNLOCK TABLES")
		ok(t, err)
		ok(t, lock.Close())
	})
}

func TestTheServerThatDiesLosesTheUnit(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		s := p.start(t)
		d := p.on(t, s, "")
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			s.Kill()
			return nil
		})
		is(t, err, dbscope.ErrCommitUnknown)
		s.Restart(t)
		want(t, "stored", d.stored(t))
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 2) }))
		want(t, "stored", d.stored(t), 2)
	})
}

func TestALedgerOnMariaDBAndMySQLSettlesALostCommit(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		for name, lost := range map[string][2]error{"done": {nil, sqldriver.ErrBadConn}, "not done": {sqldriver.ErrBadConn, nil}} {
			t.Run(name, func(t *testing.T) {
				d, f := openFaulty(t, p.database, dbscope.SettleByLedger())
				_, err := d.other.Exec(dbscope.LedgerTable)
				ok(t, err)
				f.at("COMMIT", lost[0], lost[1])
				f.single = "COMMIT" // the ledger's own commit is to work
				err = dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 1) })
				if name == "done" {
					ok(t, err)
					want(t, "stored", d.stored(t), 1)
				} else {
					is(t, err, dbscope.ErrRolledBack)
					want(t, "stored", d.stored(t))
				}
			})
		}
	})
}

func TestAUnitWhoseSnapshotIsOlderThanATableIsRunAgain(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		d := p.on(t, p.shared(t), "")
		_, err := d.other.Exec("CREATE TABLE altered (id INTEGER PRIMARY KEY)")
		ok(t, err)
		attempts := 0
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			if err := read(d.QueryContext(ctx, "SELECT id FROM t")); err != nil { // takes the snapshot
				return err
			}
			if attempts++; attempts == 1 {
				_, err := d.other.Exec("ALTER TABLE altered FORCE")
				ok(t, err)
			}
			err := read(d.QueryContext(ctx, "SELECT id FROM altered"))
			if attempts == 1 {
				numbered(t, err, 1412)
			}
			return err
		}, dbscope.Retry(dbscope.RetryPolicy{})))
		if attempts != 2 {
			t.Errorf("%d attempts", attempts)
		}
	})
}
