// Package otel_test runs otelscope together with what traces the drivers.
package otel_test

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/XSAM/otelsql"
	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	_ "modernc.org/sqlite"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/observe/otelscope"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m).Run()) }

var ok = check.OK

// spans are kept in memory.
type spans struct {
	*tracetest.InMemoryExporter
	*trace.TracerProvider
}

func newSpans() *spans {
	exporter := tracetest.NewInMemoryExporter()
	return &spans{exporter, trace.NewTracerProvider(trace.WithSyncer(exporter))}
}

// tree returns the spans of one trace that is not empty, each with those inside it.
func (s *spans) tree() string {
	all := s.GetSpans()
	slices.SortStableFunc(all, func(a, b tracetest.SpanStub) int {
		return cmp.Or(a.StartTime.Compare(b.StartTime), -a.EndTime.Compare(b.EndTime))
	})
	var lines []string
	var add func(parent [8]byte, depth int)
	add = func(parent [8]byte, depth int) {
		for _, span := range all {
			if span.Parent.SpanID() == parent {
				lines = append(lines, strings.Repeat(". ", depth)+span.Name)
				add(span.SpanContext.SpanID(), depth+1)
			}
		}
	}
	for _, root := range all {
		if root.Name == "request" {
			add(root.SpanContext.SpanID(), 0)
		}
	}
	return strings.Join(lines, "\n")
}

// request runs a unit in a span of the application's.
func (s *spans) request(t *testing.T, fn func(context.Context) error) {
	t.Helper()
	ctx, span := s.Tracer("application").Start(t.Context(), "request")
	ok(t, dbscope.Run(ctx, fn, dbscope.Name("POST /orders")))
	span.End()
}

func (s *spans) want(t *testing.T, want ...string) {
	t.Helper()
	if got := s.tree(); got != strings.Join(want, "\n") {
		t.Errorf("the spans are\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestSpansOfOtelpgxComeInsideOfTheTransaction(t *testing.T) {
	s := newSpans()
	config, err := pgxpool.ParseConfig(pgtest.Shared(t).CreateDatabase(t))
	ok(t, err)
	config.ConnConfig.Tracer = otelpgx.NewTracer(otelpgx.WithTracerProvider(s), otelpgx.WithDisableSQLStatementInAttributes())
	pgxscope.Configure(config)
	db := pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
		return pgxpool.NewWithConfig(context.Background(), config)
	},
		dbscope.Observe(otelscope.New(otelscope.TracerProvider(s))))
	defer func() { ok(t, db.Close()) }()
	unit := func(ctx context.Context) error {
		if _, err := db.Exec(ctx, "CREATE TEMPORARY TABLE IF NOT EXISTS orders (id INTEGER)"); err != nil {
			return err
		}
		_, err := db.Exec(ctx, "INSERT INTO orders VALUES (1)")
		return err
	}
	s.request(t, unit) // which connects
	s.Reset()
	s.request(t, unit)
	s.want(t,
		"POST /orders",
		". wait for a connection",
		". . pool.acquire",
		". transaction",
		". . CREATE",
		". . INSERT",
		". . COMMIT",
		". . . COMMIT",
	)
}

func TestSpansOfOtelsqlComeInsideOfTheTransaction(t *testing.T) {
	s := newSpans()
	db := sqlscope.New(func(context.Context, string) (*sql.DB, error) {
		return otelsql.Open("sqlite", "file:"+t.TempDir()+"/test.db", otelsql.WithTracerProvider(s))
	}, dbscope.Observe(otelscope.New(otelscope.TracerProvider(s))))
	defer func() { ok(t, db.Close()) }()
	unit := func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS orders (id INTEGER)")
		rows, failed := db.QueryContext(ctx, "SELECT id FROM orders")
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		for rows.Next() {
		}
		return errors.Join(rows.Err(), rows.Close())
	}
	s.request(t, unit)
	s.Reset()
	s.request(t, unit)
	s.want(t,
		"POST /orders",
		". wait for a connection",
		". . sql.conn.reset_session",
		". transaction",
		". . sql.conn.begin_tx",
		". . sql.conn.exec",
		". . sql.conn.query",
		". . sql.rows",
		". . COMMIT",
		". . sql.tx.commit",
	)
}
