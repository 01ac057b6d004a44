package subject

import (
	"context"
	"io"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/observe"
	"github.com/dbscope/dbscope/observe/livescope"
	"github.com/dbscope/dbscope/observe/otelscope"
	"github.com/dbscope/dbscope/observe/slogscope"
)

// discarded are spans that leave the SDK and go nowhere.
type discarded struct{}

func (discarded) ExportSpans(context.Context, []trace.ReadOnlySpan) error { return nil }
func (discarded) Shutdown(context.Context) error                          { return nil }

// observers are all there are, but for those of a test.
func observers() observe.Observer {
	spans := trace.NewTracerProvider(trace.WithBatcher(discarded{}))
	meters := metric.NewMeterProvider(metric.WithReader(metric.NewManualReader()))
	return observe.Together(
		otelscope.New(otelscope.TracerProvider(spans), otelscope.MeterProvider(meters), otelscope.System("postgresql")),
		slogscope.New(slogscope.Logger(slog.New(slog.NewJSONHandler(io.Discard, nil)))),
		livescope.New(livescope.StatementText()),
	)
}

// withObservers is withPgxscope, whose units are observed.
func withObservers(ctx context.Context, c Config) (*Subject, error) {
	pool, err := openPgx(ctx, c, pgxscope.Configure)
	if err != nil {
		return nil, err
	}
	db := pgxscope.New(func(context.Context, string) (*pgxpool.Pool, error) { return pool, nil }, dbscope.Observe(observers()))
	return scoped(without(onPgx{db}), db.Close), nil
}
