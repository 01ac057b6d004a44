package sqlscope_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
)

// committing are statements that commit the transaction on MariaDB and MySQL, over
// tables t and other, and the procedure p.
var committing = []string{
	"CREATE TABLE new (id INTEGER)",
	"TRUNCATE TABLE other",
	"CREATE TABLE t (id INTEGER)", // is refused, and commits all the same
	"ALTER TABLE nowhere ADD x INTEGER",
	"ANALYZE TABLE other",
	"LOCK TABLES other WRITE",
	"CALL p()",
	"/* who */ CREATE TABLE new (id INTEGER)",
	"-- who\n# else\nCREATE TABLE new (id INTEGER)",
	"/*!50000 CREATE TABLE new (id INTEGER) */",
	"/*! CREATE TABLE new AS */ SELECT 1 AS id",
	"SELECT 1; CREATE TABLE new (id INTEGER)",
	"DELETE FROM other; CALL p()",

	// A transaction is open behind these, but not the unit's.
	"PREPARE x FROM 'COMMIT AND CHAIN'; EXECUTE x",
	"CALL again()",
	"CALL chains()",
	"SELECT 1; CALL again()",
	"/*!50000 CREATE TABLE new (id INTEGER) */; CALL again()",

	// After an error nothing is open, but what came before is stored.
	"CALL dies()",
}

// committingOn adds what MySQL does not have.
func committingOn(p product) []string {
	if p.mysql {
		return append([]string{"INSTALL PLUGIN nothing SONAME 'nothing.so'", "SET PASSWORD = ''"}, committing...)
	}
	return append([]string{
		"create or replace table new (id integer)",
		"/*M!100000 CREATE TABLE new (id INTEGER) */",
		"/*M! CREATE TABLE new AS */ SELECT 1 AS id",
		"EXECUTE IMMEDIATE 'CREATE TABLE new (id INTEGER)'",
		"EXECUTE IMMEDIATE 'COMMIT AND CHAIN'",
		"BEGIN NOT ATOMIC COMMIT; START TRANSACTION; END",
		"IF TRUE THEN COMMIT AND CHAIN; END IF",
		"SET STATEMENT max_statement_time = 60 FOR COMMIT AND CHAIN",
	}, committing...)
}

func openEnding(t *testing.T, p product, opts ...dbscope.DBOption) *opened {
	d := p.on(t, p.shared(t), "multiStatements=true", opts...)
	for _, query := range []string{
		"CREATE TABLE other (id INTEGER)",
		"CREATE PROCEDURE p() BEGIN DELETE FROM other; COMMIT; END",
		"CREATE PROCEDURE again() BEGIN DELETE FROM other; COMMIT; START TRANSACTION; END",
		"CREATE PROCEDURE chains() COMMIT AND CHAIN",
		"CREATE PROCEDURE undoes() ROLLBACK AND CHAIN",
		"CREATE PROCEDURE dies() BEGIN COMMIT; SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213; END",
		"CREATE PROCEDURE sleeps() BEGIN COMMIT; DO SLEEP(60); END",
		"CREATE PROCEDURE good() BEGIN DELETE FROM other; SELECT 7; END",
		dbscope.LedgerTable,
	} {
		_, err := d.other.Exec(query)
		ok(t, err)
	}
	return d
}

// again makes a database as it was.
func again(t *testing.T, d *opened) {
	t.Helper()
	for _, query := range []string{"DROP TABLE IF EXISTS new", "DELETE FROM t"} {
		_, err := d.other.Exec(query)
		ok(t, err)
	}
}

// Rule 7.
func TestAStatementThatCommitsOnMariaDBAndMySQLIsToldAndNothingFollowsIt(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		d := openEnding(t, p)
		for _, query := range committingOn(p) {
			t.Run(query, func(t *testing.T) {
				for _, end := range []error{nil, errStop} {
					err := dbscope.Run(t.Context(), func(ctx context.Context) error {
						ok(t, insert(ctx, d, 1))
						_, err := d.ExecContext(ctx, query)
						ended(t, err)
						ended(t, insert(ctx, d, 2))
						ended(t, d.QueryRowContext(ctx, "SELECT id FROM t").Scan(new(int)))
						_, err = d.SQL().BeginTx(ctx, nil)
						ended(t, err)
						ended(t, d.Atomic(ctx, func(ctx context.Context) error { return insert(ctx, d, 3) }))
						return end
					})
					ended(t, err)
					switch {
					case end != nil:
						is(t, err, errStop)
					case !errors.Is(err, dbscope.ErrCommitUnknown) || errors.Is(err, dbscope.ErrRolledBack):
						t.Errorf("the commit says: %v", err)
					}
					want(t, "stored", d.stored(t), 1)
					again(t, d)
				}
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 4) }))
				want(t, "stored by the next unit", d.stored(t), 4)
				again(t, d)
			})
		}
	})
}

func ended(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "has committed the transaction") {
		t.Fatalf("error is %v, want one that tells of the commit", err)
	}
}

func TestAStatementThatCommitsOnMariaDBAndMySQLIsFoundHoweverItRuns(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		d := openEnding(t, p)
		const query = "CREATE TABLE new (id INTEGER)"
		some := map[string]func(ctx context.Context, d *opened, query string) error{
			"rows": func(ctx context.Context, d *opened, query string) error {
				rows, err := d.QueryContext(ctx, query)
				if err != nil {
					return err
				}
				return errors.Join(rows.Err(), rows.Close())
			},
		}
		for way, run := range ways {
			if !strings.Contains(way, "QueryContext") { // which adds to the text
				some[way] = run
			}
		}
		for way, run := range some {
			t.Run(way, func(t *testing.T) {
				is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					ok(t, insert(ctx, d, 1))
					ended(t, run(ctx, d, query))
					return nil
				}), dbscope.ErrCommitUnknown)
				again(t, d)
			})
		}
		t.Run("rows left open", func(t *testing.T) {
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, d, 1))
				_, err := d.SQL().QueryContext(ctx, "SELECT 1; CALL again()")
				return err
			}), dbscope.ErrCommitUnknown)
			want(t, "stored", d.stored(t), 1)
			again(t, d)
			is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, d, 1))
				ok(t, d.Atomic(ctx, func(ctx context.Context) error {
					_, err := d.SQL().QueryContext(ctx, "SELECT 1; CALL again()")
					return err
				}))
				ended(t, insert(ctx, d, 2))
				return nil
			}), dbscope.ErrCommitUnknown)
			want(t, "stored", d.stored(t), 1)
		})
	})
}

func TestStatementsThatOnlyLookAsIfTheyCommittedOnMariaDBAndMySQLDoNoHarm(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		d := openEnding(t, p)
		atomic, immediate := "BEGIN NOT ATOMIC DELETE FROM other; END", "EXECUTE IMMEDIATE 'DELETE FROM other'"
		if p.mysql { // which has neither
			atomic, immediate = "DO 1", "HANDLER other OPEN"
		}
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			for i, query := range []string{
				"CREATE TEMPORARY TABLE mine (id INTEGER)",
				"SET @a = 1",
				"SET NAMES utf8mb4",
				"SAVEPOINT mine",
				atomic,
				immediate,
				"PREPARE x FROM 'DELETE FROM other'",
				"EXECUTE x",
				"/*! DELETE FROM other */",
				"ROLLBACK TO mine",
				"CALL good()",
				"INSERT INTO other VALUES (1);",
				"INSERT INTO other VALUES (1); DELETE FROM other",
				"(SELECT 1) UNION (SELECT 2)",
				"SELECT ';'",
				"DROP TEMPORARY TABLE mine",
			} {
				ok(t, insert(ctx, d, i))
				_, err := d.ExecContext(ctx, query)
				ok(t, err)
			}
			var seven int
			ok(t, d.QueryRowContext(ctx, "CALL good()").Scan(&seven))
			return nil
		}))
		want(t, "stored", d.stored(t), 0, 1, 2, 3, 10, 11, 12, 13, 14, 15)
	})
}

func TestABlockOnMariaDBAndMySQLThatCommitsTellsAndSoDoesTheUnit(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		d := openEnding(t, p)
		for name, swallow := range map[string]bool{"tells": false, "swallows it": true} {
			t.Run(name, func(t *testing.T) {
				err := dbscope.Run(t.Context(), func(ctx context.Context) error {
					ok(t, insert(ctx, d, 1))
					_ = d.Atomic(ctx, func(ctx context.Context) error {
						ok(t, insert(ctx, d, 2))
						_, err := d.ExecContext(ctx, "CREATE TABLE new (id INTEGER)")
						ended(t, err)
						if swallow {
							return nil
						}
						return err
					})
					ended(t, insert(ctx, d, 3))
					return nil
				})
				ended(t, err)
				is(t, err, dbscope.ErrCommitUnknown)
				want(t, "stored", d.stored(t), 1, 2)
				again(t, d)
			})
		}
	})
}

// Neither a retry nor a ledger takes for undone what is stored.
func TestWhatAStatementOnMariaDBAndMySQLHasCommittedIsNotCalledUndone(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		d := openEnding(t, p, dbscope.SettleByLedger())
		attempts := 0
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			attempts++
			ok(t, insert(ctx, d, attempts))
			_, err := d.ExecContext(ctx, "CREATE TABLE new (id INTEGER)")
			ended(t, err)
			return nil
		}, dbscope.Retry(dbscope.RetryPolicy{}))
		var commit *dbscope.CommitError
		if !errors.As(err, &commit) || commit.Outcomes[0].State != driver.Unknown || errors.Is(err, dbscope.ErrRolledBack) || attempts != 1 {
			t.Errorf("%d attempts, then %v", attempts, err)
		}
		again(t, d)

		// ALTER TABLE commits first, and then waits for the table.
		holder, err := d.other.Begin()
		ok(t, err)
		ok(t, holder.QueryRow("SELECT count(*) FROM other").Scan(new(int)))
		attempts = 0
		err = dbscope.Run(t.Context(), func(ctx context.Context) error {
			attempts++
			ok(t, insert(ctx, d, attempts))
			_, err := d.ExecContext(ctx, "SET lock_wait_timeout = 1")
			ok(t, err)
			_, err = d.ExecContext(ctx, "ALTER TABLE other ADD x INTEGER")
			numbered(t, err, 1205)
			return err
		}, dbscope.Retry(dbscope.RetryPolicy{}))
		ended(t, err)
		if attempts != 1 {
			t.Errorf("%d attempts", attempts)
		}
		want(t, "stored", d.stored(t), 1)
		ok(t, holder.Rollback())
	})
}

func TestWithoutAScopeStatementsThatCommitAreFreeOnMariaDBAndMySQL(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		d := openEnding(t, p, dbscope.AllowUnscoped())
		_, err := d.ExecContext(t.Context(), "CREATE TABLE new (id INTEGER)")
		ok(t, err)
		pool, err := d.scoped.(overSQL).Engine(t.Context())
		ok(t, err)
		_, err = pool.Exec("DROP TABLE new")
		ok(t, err)
	})
}
