package sqlscope_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// R11.
func TestADatabaseSwitchesToAnotherServerAndStaysWhereTheNewOneDoesNotAnswer(t *testing.T) {
	primary := pgtest.Shared(t)
	standby := primary.Standby(t)
	at := func(s *pgtest.Server) string { return fmt.Sprintf("127.0.0.1:%d", s.Port()) }
	const dsn = "postgres://postgres@{host}/postgres?sslmode=disable"
	for name, d := range map[string]interface {
		scoped
		Host() string
		SwitchHost(ctx context.Context, host string) error
	}{
		"sqlscope": overSQL{sqlscope.Open("pgx", dsn, dbscope.Host(at(primary)))},
		"pgxscope": overPgx{pgxscope.Open(dsn, dbscope.Host(at(primary)))},
	} {
		t.Run(name, func(t *testing.T) {
			recovering := func(ctx context.Context) (is bool) {
				ok(t, d.QueryRowContext(ctx, "SELECT pg_is_in_recovery()").Scan(&is))
				return is
			}
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				if recovering(ctx) {
					t.Error("it began on the standby")
				}
				ok(t, d.SwitchHost(ctx, at(standby)))
				if recovering(ctx) {
					t.Error("the open session went to the standby")
				}
				ok(t, d.Rollback(ctx))
				if !recovering(ctx) {
					t.Error("the next session did not go to the standby")
				}
				return nil
			}))
			if err := d.SwitchHost(t.Context(), "127.0.0.1:1"); err == nil || d.Host() != at(standby) {
				t.Errorf("error is %v, the host is %s", err, d.Host())
			}
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { recovering(ctx); return nil }))
			ok(t, d.Close())
		})
	}
}
