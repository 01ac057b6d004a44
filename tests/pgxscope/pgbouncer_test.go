package pgxscope_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/pgbouncer"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// Debian's PgBouncer does not know of prepared statements, which are the
// default mode's.
func TestTheAdapterPassesTheSuiteThroughPgBouncerInTransactionMode(t *testing.T) {
	bouncer := pgbouncer.Start(t, pgtest.Shared(t))
	for _, mode := range modes {
		if mode == pgx.QueryExecModeCacheStatement {
			continue
		}
		t.Run(mode.String(), func(t *testing.T) {
			conform(t, func(t *testing.T, opts ...dbscope.DBOption) *opened {
				dsn := createDatabase(t)
				return openDSN(t, bouncer.DSN(dsn), dsn, mode, opts...)
			})
		})
	}
}
