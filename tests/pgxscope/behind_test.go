package pgxscope_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// What runs on the connection itself is not seen before it runs: the server's
// answers tell of it.
func TestWhatEndsTheTransactionOnItsConnectionIsFoundOut(t *testing.T) {
	onEachMode(t, func(t *testing.T, d *opened) {
		for _, text := range []string{
			"COMMIT", "COMMIT AND CHAIN", "SELECT 1; COMMIT; BEGIN", "ROLLBACK", "ROLLBACK; BEGIN",
		} {
			t.Run(text, func(t *testing.T) {
				for _, end := range []error{nil, errStop} {
					ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
						_, err := d.Exec(ctx, "DELETE FROM t")
						return err
					}))
					err := dbscope.Run(t.Context(), func(ctx context.Context) error {
						ok(t, insert(ctx, d, 1))
						tx, err := d.Session(ctx)
						ok(t, err)
						_, err = tx.Conn().Exec(ctx, text, pgx.QueryExecModeSimpleProtocol)
						ok(t, err)
						if insert(ctx, d, 2) == nil {
							t.Error("the next statement passes")
						}
						return end
					})
					switch ids := d.stored(t); {
					case err == nil:
						t.Errorf("%v are stored, and nothing is said", ids)
					case end == nil:
						is(t, err, dbscope.ErrCommitUnknown)
					case len(ids) > 0 && !strings.Contains(err.Error(), "behind the scope's back"):
						t.Errorf("%v are stored by a unit that says %v", ids, err)
					}
				}
			})
		}
	})
}

// What a statement has committed stays so when the server then ends the session:
// that COMMIT was not sent does not make it undone.
func TestAStatementThatCommittedIsNotForgottenWhenTheSessionEnds(t *testing.T) {
	d := open(t, pgx.QueryExecModeCacheStatement)
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, insert(ctx, d, 1))
		tx, err := d.Session(ctx)
		ok(t, err)
		conn := tx.Conn()
		_, err = conn.Exec(ctx, "COMMIT")
		ok(t, err)
		pgtest.Shared(t).Query(t, d.dsn, "SELECT pg_terminate_backend("+itoa(int(conn.PgConn().PID()))+", 10000)")
		return nil
	})
	is(t, err, dbscope.ErrCommitUnknown)
	if errors.Is(err, dbscope.ErrRolledBack) {
		t.Errorf("it is also called rolled back: %v", err)
	}
	want(t, "stored", d.stored(t), 1)
}
