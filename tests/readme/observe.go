package readme

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/observe"
	"github.com/dbscope/dbscope/observe/heldscope"
	"github.com/dbscope/dbscope/observe/livescope"
	"github.com/dbscope/dbscope/observe/otelscope"
	"github.com/dbscope/dbscope/observe/slogscope"
	"github.com/dbscope/dbscope/scopetest"
)

// What deserves a look is in the log.
var watched = pgxscope.Open("postgres://app@127.0.0.1/shop", dbscope.Observe(slogscope.New()))

// The log of a service that hashes passwords: nothing of that kind belongs into a
// transaction, and 50 milliseconds of it are too many.
func strictLog(logger *slog.Logger) observe.Observer {
	return slogscope.New(slogscope.Logger(logger), slogscope.Idle(50*time.Millisecond), slogscope.Slow(250*time.Millisecond))
}

// Requests are spans of OpenTelemetry from their beginning.
func traced(tracers *trace.TracerProvider, meters *metric.MeterProvider) func(http.Handler) http.Handler {
	tracing := otelscope.New(otelscope.TracerProvider(tracers), otelscope.MeterProvider(meters), otelscope.System("postgresql"))
	return httpscope.Middleware(httpscope.ScopeOptions(dbscope.Observe(tracing)))
}

// A job has a name of its own, and a budget.
func nightlyImport(ctx context.Context, imports func(context.Context) error) error {
	return dbscope.Run(ctx, imports, dbscope.Name("nightly import"), dbscope.MaxConns(1))
}

// Calls that the service makes while a transaction is open are found.
var outgoing = &http.Client{Transport: heldscope.Transport(http.DefaultTransport)}

// A client of another kind tells of its calls itself.
func publish(ctx context.Context, send func() error) (err error) {
	_, over := heldscope.Call(ctx, "the queue")
	defer func() { over(err) }()
	return send()
}

// The page is beside the service, not in its units.
func withPage(service http.Handler, live *livescope.Page) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/debug/dbscope/", live)
	mux.Handle("/", httpscope.Middleware()(service))
	return mux
}

// The test fails where a unit holds a transaction open through a call, or runs the same
// query five times.
func testStrictly(t *testing.T) {
	ctx := scopetest.Strict(scopetest.Rollback(t, shop), scopetest.Repetitions(5))
	if err := dbscope.Run(ctx, func(ctx context.Context) error { return placeOrder(ctx, "tea") }); err != nil {
		t.Fatal(err)
	}
}

// counter is an observer of one's own: it counts units by what became of them.
type counter struct{ count func(outcome string) }

// Start is called for each unit, with other things that are not inside of one.
func (c *counter) Start(ctx context.Context, e observe.Event) (context.Context, observe.Span) {
	if e.Kind != observe.Unit {
		return ctx, nil
	}
	return ctx, unitOf{c}
}

// unitOf is told of what begins in a unit, and does not want to know more of it.
type unitOf struct{ c *counter }

func (unitOf) Start(ctx context.Context, _ observe.Event) (context.Context, observe.Span) {
	return ctx, nil
}

// End is called as the unit is over.
func (u unitOf) End(_ context.Context, e observe.Event) { u.c.count(e.Outcome.String()) }

var _ = []any{watched, strictLog, traced, nightlyImport, outgoing, publish, withPage, testStrictly, &counter{}}
