package sqlscope_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
)

// What the transaction was rolled back to in between is nobody's.
func TestAProcedureOnMariaDBAndMySQLThatRollsBackIsTold(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		d := openEnding(t, p)
		for _, end := range []error{nil, errStop} {
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, d, 1))
				_, err := d.ExecContext(ctx, "CALL undoes()")
				ended(t, err)
				ended(t, insert(ctx, d, 2))
				return end
			})
			ended(t, err)
			if end == nil {
				is(t, err, dbscope.ErrCommitUnknown)
			}
			want(t, "stored", d.stored(t))
		}
	})
}

// A deadlock inside a procedure undoes all that is not committed, and only
// then may the unit be run again.
func TestAProcedureOnMariaDBAndMySQLThatCommitsBeforeADeadlockIsNotRunAgain(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		d := openEnding(t, p)
		queries := []string{"CALL dies()", "PREPARE x FROM 'CALL dies()'; EXECUTE x"}
		if !p.mysql {
			queries = append(queries, "EXECUTE IMMEDIATE 'CALL dies()'", "BEGIN NOT ATOMIC CALL dies(); END")
		}
		for _, query := range queries {
			attempts := 0
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				attempts++
				ok(t, insert(ctx, d, attempts))
				_, err := d.ExecContext(ctx, "CALL good()")
				ok(t, err)
				_, err = d.ExecContext(ctx, query)
				numbered(t, err, 1213)
				return err
			}, dbscope.Retry(dbscope.RetryPolicy{}))
			ended(t, err)
			numbered(t, err, 1213)
			if attempts != 1 {
				t.Errorf("%d attempts", attempts)
			}
			want(t, "stored", d.stored(t), 1)
			again(t, d)
		}
	})
}

func TestAProcedureOnMariaDBAndMySQLWhoseConnectionIsLostMayHaveCommitted(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		d := openEnding(t, p)
		for _, end := range []error{nil, errStop} {
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, d, 1))
				one, cancel := context.WithCancel(ctx)
				go func() {
					for len(d.stored(t)) == 0 && ctx.Err() == nil {
						time.Sleep(time.Millisecond)
					}
					cancel()
				}()
				_, err := d.ExecContext(one, "CALL sleeps()")
				may(t, err)
				may(t, insert(ctx, d, 2))
				return end
			})
			may(t, err)
			if end == nil {
				is(t, err, dbscope.ErrCommitUnknown)
			}
			want(t, "stored", d.stored(t), 1)
			again(t, d)
		}
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 3) }))
		want(t, "stored by the next unit", d.stored(t), 3)
	})
}

func may(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "may have committed the transaction") {
		t.Fatalf("error is %v, want one that tells of the doubt", err)
	}
}

// The connection that a statement has left with a transaction, or with locks, of
// its own is closed.
func TestNothingOpenIsLeftToTheNextUnitOnMariaDBAndMySQL(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		d := openEnding(t, p)
		for _, query := range []string{"CALL again()", "LOCK TABLES other WRITE"} {
			for _, end := range []error{nil, errStop} {
				ended(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					_, err := d.ExecContext(ctx, query)
					ended(t, err)
					return end
				}))
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					ok(t, insert(ctx, d, 1))
					var open int
					ok(t, d.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.INNODB_TRX").Scan(&open))
					if open != 1 {
						t.Errorf("%d transactions are open", open)
					}
					return nil
				}))
				again(t, d)
			}
		}
	})
}

// With other settings than the server's own a string ends elsewhere.
func TestWhateverABackslashMeansToMariaDBACommitIsTold(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		for _, mode := range []string{"ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ORACLE", ""} {
			if p.mysql && mode == "ORACLE" {
				continue
			}
			d := p.on(t, p.shared(t), "multiStatements=true&sql_mode='"+mode+"'")
			for _, text := range []string{
				`SELECT '\'; SELECT 'a'; COMMIT; SELECT 'b'`,
				`SELECT ''; SELECT '; COMMIT; -- '`,
				`SELECT 1 AS ""; SELECT 1 AS "; COMMIT; -- "`,
				"BEGIN COMMIT; END",
				"DECLARE a INT; BEGIN COMMIT; END",
			} {
				honest(t, d, func(ctx context.Context) error {
					_, err := d.ExecContext(ctx, text)
					return err
				})
			}
		}
	})
}

// MariaDB releases with a savepoint those made after it. That is an error for
// who goes back to it, never silence.
func TestASavepointOnMariaDBAndMySQLThatATextMakesBesideACallIsReleased(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		d := openEnding(t, p)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			_, err := d.ExecContext(ctx, "SAVEPOINT a; CALL good()")
			ok(t, err)
			ok(t, insert(ctx, d, 1))
			_, err = d.ExecContext(ctx, "ROLLBACK TO a")
			numbered(t, err, 1305)
			return nil
		}))
		want(t, "stored", d.stored(t), 1)
	})
}
