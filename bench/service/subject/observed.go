package subject

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/observe"
	"github.com/dbscope/dbscope/observe/livescope"
	"github.com/dbscope/dbscope/observe/otelscope"
	"github.com/dbscope/dbscope/observe/slogscope"
)

// discardedSpans are spans that leave the SDK and go nowhere.
type discardedSpans struct{}

func (discardedSpans) ExportSpans(context.Context, []trace.ReadOnlySpan) error { return nil }
func (discardedSpans) Shutdown(context.Context) error                          { return nil }

// discardedMetrics are metrics that do.
type discardedMetrics struct{}

func (discardedMetrics) Temporality(k metric.InstrumentKind) metricdata.Temporality {
	return metric.DefaultTemporalitySelector(k)
}

func (discardedMetrics) Aggregation(k metric.InstrumentKind) metric.Aggregation {
	return metric.DefaultAggregationSelector(k)
}
func (discardedMetrics) Export(context.Context, *metricdata.ResourceMetrics) error { return nil }
func (discardedMetrics) ForceFlush(context.Context) error                          { return nil }
func (discardedMetrics) Shutdown(context.Context) error                            { return nil }

// everything are all observers there are, but for those of a test: spans and metrics
// leave the SDK, and somebody looks at the page.
type everything struct {
	observe.Observer
	spans   *trace.TracerProvider
	metrics *metric.MeterProvider
	leave   context.CancelFunc
	left    chan struct{}
}

func observers() *everything {
	ctx, leave := context.WithCancel(context.Background())
	e := &everything{
		spans:   trace.NewTracerProvider(trace.WithBatcher(discardedSpans{})),
		metrics: metric.NewMeterProvider(metric.WithReader(metric.NewPeriodicReader(discardedMetrics{}, metric.WithInterval(10*time.Second)))),
		leave:   leave, left: make(chan struct{}),
	}
	page := livescope.New(livescope.StatementText())
	e.Observer = observe.Together(
		otelscope.New(otelscope.TracerProvider(e.spans), otelscope.MeterProvider(e.metrics), otelscope.System("postgresql")),
		slogscope.New(slogscope.Logger(slog.New(slog.NewJSONHandler(io.Discard, nil)))),
		page,
	)
	go e.look(ctx, page)
	return e
}

// look reads the page's stream, as a browser does.
func (e *everything) look(ctx context.Context, page http.Handler) {
	defer close(e.left)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/stream", http.NoBody)
	if err == nil {
		r.RemoteAddr = "127.0.0.1:1"
		page.ServeHTTP(discardedAnswer{}, r)
	}
}

type discardedAnswer struct{}

func (discardedAnswer) Header() http.Header         { return http.Header{} }
func (discardedAnswer) WriteHeader(int)             {}
func (discardedAnswer) Write(p []byte) (int, error) { return len(p), nil }
func (discardedAnswer) Flush()                      {}

func (e *everything) close() error {
	e.leave()
	<-e.left
	ctx := context.Background()
	return errors.Join(e.spans.Shutdown(ctx), e.metrics.Shutdown(ctx))
}

// withObservers is withPgxscope, whose units are observed.
func withObservers(ctx context.Context, c Config) (*Subject, error) {
	pool, err := openPgx(ctx, c, pgxscope.Configure)
	if err != nil {
		return nil, err
	}
	all := observers()
	db := pgxscope.New(func(context.Context, string) (*pgxpool.Pool, error) { return pool, nil }, dbscope.Observe(all.Observer))
	return scoped(without(onPgx{db}), func() error { return errors.Join(db.Close(), all.close()) }), nil
}
