package pgxwire

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
)

// A proxy that does not keep the order of messages, as pgpool-II at times, is
// found out at once. The error tells what to do, whatever pgx makes of it.
func TestAnswersInAnotherOrderAreAnErrorThatNamesTheOption(t *testing.T) {
	for kind, first := range map[string]func(ctx context.Context, db *pgxscope.DB) error{
		"Exec": func(ctx context.Context, db *pgxscope.DB) error {
			_, err := db.Exec(ctx, "select /*u0s0*/ 42")
			return err
		},
		"QueryRow": func(ctx context.Context, db *pgxscope.DB) error {
			return db.QueryRow(ctx, "select /*u0s0*/ 42", pgx.QueryExecModeSimpleProtocol).Scan(new(string))
		},
		"SQL": func(ctx context.Context, db *pgxscope.DB) error {
			_, err := db.SQL().ExecContext(ctx, "select /*u0s0*/ 42")
			return err
		},
	} {
		t.Run(kind, func(t *testing.T) {
			db := openBehindProxy(t)
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				if err := first(ctx, db); err == nil || !strings.Contains(err.Error(), "SeparateBegin") {
					t.Errorf("the error is %v", err)
				}
				return nil
			})
			if !errors.Is(err, dbscope.ErrRolledBack) {
				t.Errorf("the unit ended with %v", err)
			}
			if err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				return first(ctx, openBehindProxy(t, pgxscope.SeparateBegin()))
			}); err != nil {
				t.Errorf("with a separate BEGIN: %v", err)
			}
		})
	}
}

func openBehindProxy(t *testing.T, opts ...dbscope.DBOption) *pgxscope.DB {
	s := newServer(program{units: []unit{{statements: []statement{{tag: "u0s0", rows: 1}}}}})
	s.simpleFirst = true
	return openOn(t, s, opts...)
}

func openOn(t *testing.T, s *server, opts ...dbscope.DBOption) *pgxscope.DB {
	db := pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
		config, err := pgxpool.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		configure(config.ConnConfig, s, &trace{})
		pgxscope.Configure(config)
		return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	}, opts...)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		s.running.Wait()
	})
	return db
}
