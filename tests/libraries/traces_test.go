package libraries_test

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"testing"

	"github.com/XSAM/otelsql"
	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// Below dbscope each statement of a unit, and its COMMIT, is a span of the request's.
func TestTracesBelowSeeTheUnitsStatements(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(spans))

	t.Run("otelsql", func(t *testing.T) {
		onEach(t, "", func(t *testing.T, s *shop) {
			if s.sql == nil {
				t.Skip("it is for database/sql")
			}
			driver := map[string]string{"sqlite": "sqlite3", "postgres": "pgx", "mysql": "mysql"}[s.dialect]
			db := sqlscope.New(func(context.Context, string) (*sql.DB, error) {
				return otelsql.Open(driver, s.dsn, otelsql.WithTracerProvider(provider))
			})
			t.Cleanup(func() { ok(t, db.Close()) })
			traced(t, provider, spans, func(ctx context.Context) error {
				// The failed one has sqlscope ask what is left of the transaction, through otelsql.
				ok(t, db.Atomic(ctx, func(ctx context.Context) error {
					_, err := db.ExecContext(ctx, "INSERT INTO authors (name) VALUES ('a')")
					return err
				}))
				if db.Atomic(ctx, func(ctx context.Context) error {
					_, err := db.ExecContext(ctx, "INSERT INTO authors (name) VALUES ('a')")
					return err
				}) == nil {
					t.Error("a name was stored twice")
				}
				return nil
			}, "sql.conn.exec")
			s.want(t, 1, 0)
		})
	})
	dsn := pgtest.Shared(t).CreateDatabase(t)
	t.Run("otelpgx", func(t *testing.T) {
		db := pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
			config, err := pgxpool.ParseConfig(dsn)
			if err != nil {
				return nil, err
			}
			config.ConnConfig.Tracer = otelpgx.NewTracer(otelpgx.WithTracerProvider(provider))
			pgxscope.Configure(config)
			return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
		})
		t.Cleanup(func() { ok(t, db.Close()) })
		traced(t, provider, spans, func(ctx context.Context) error {
			_, err := db.Exec(ctx, "CREATE TABLE b (id INTEGER)")
			return err
		}, "CREATE")
	})
}

func traced(t *testing.T, provider *trace.TracerProvider, spans *tracetest.SpanRecorder, unit func(ctx context.Context) error, span string) {
	t.Helper()
	ctx, request := provider.Tracer("test").Start(t.Context(), "request")
	ok(t, dbscope.Run(ctx, unit))
	request.End()
	var names []string
	for _, s := range spans.Ended() {
		if s.SpanContext().TraceID() == request.SpanContext().TraceID() {
			names = append(names, s.Name())
		}
	}
	if !slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, span) }) {
		t.Errorf("no %q among %q", span, names)
	}
}
