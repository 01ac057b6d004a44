// Package otelscope makes spans and metrics of OpenTelemetry of units of work.
//
//	shop := pgxscope.Open(dsn, dbscope.Observe(otelscope.New()))
//
// A unit is a span, and within it there are spans for the wait for a connection, the
// transaction, and COMMIT or ROLLBACK. Statements are left to what traces the driver, such
// as otelpgx or otelsql: their spans come inside of that of the transaction, unless the
// application has begun one of its own around them.
//
// Where the observer is given to the unit, as httpscope.ScopeOptions does with
// dbscope.Observe, all spans that are begun in the unit are inside of its span. A DB's
// observer learns of a unit when that first uses the DB: spans of the application's own
// are then beside the unit's span, under the same parent.
//
// Metrics have the names of the semantic conventions for clients of databases, as far as
// there are such names, and else names of dbscope's own. docs/observe.md lists all, with
// their attributes. Neither spans nor metrics have the text of statements or arguments.
package otelscope

import (
	"context"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/dbscope/dbscope/internal/follow"
	"github.com/dbscope/dbscope/observe"
)

const scope = "github.com/dbscope/dbscope/observe/otelscope"

// New returns an observer that makes spans and metrics. It is for as many DBs and units as
// one likes. What cannot be measured, since the provider refuses an instrument, goes to
// the handler of [otel.SetErrorHandler].
func New(opts ...Option) observe.Observer {
	c := &config{system: "other_sql", limits: follow.Default}
	for _, set := range opts {
		set(c)
	}
	if c.tracers == nil {
		c.tracers = otel.GetTracerProvider()
	}
	if c.meters == nil {
		c.meters = otel.GetMeterProvider()
	}
	m := newMeasures(c)
	o := &observer{config: c, measures: m, tracer: c.tracers.Tracer(scope)}
	return observe.Together(o, follow.New(follow.Config{Limits: c.limits, Found: o.found, Over: o.over, Retry: o.retry}))
}

// Option changes what is made of units.
type Option func(*config)

type config struct {
	tracers    trace.TracerProvider
	meters     metric.MeterProvider
	system     string
	attributes []attribute.KeyValue
	texts      bool
	statements bool // are measured by somebody else
	limits     follow.Limits
}

// TracerProvider is where the spans go. The default is the global one, as it is when New
// is called. One that makes no spans leaves metrics.
func TracerProvider(p trace.TracerProvider) Option { return func(c *config) { c.tracers = p } }

// MeterProvider is where the metrics go. The default is the global one, as it is when New
// is called.
func MeterProvider(p metric.MeterProvider) Option { return func(c *config) { c.meters = p } }

// System is the value of db.system.name: "postgresql", "mariadb", "mysql", "sqlite" or
// another one of the semantic conventions. The default is "other_sql".
func System(name string) Option { return func(c *config) { c.system = name } }

// Attributes are added to all spans and metrics. There must be few values of each. The
// default is none.
func Attributes(all ...attribute.KeyValue) Option {
	return func(c *config) { c.attributes = append(c.attributes, all...) }
}

// ErrorText gives spans that failed the text of their error, which may have values of the
// application's users in it. The default is the type of the error alone.
func ErrorText() Option { return func(c *config) { c.texts = true } }

// MeasuredElsewhere leaves out db.client.operation.duration, where what instruments the
// driver measures it already. The default is to measure it.
func MeasuredElsewhere() Option { return func(c *config) { c.statements = true } }

// Idle is how long nothing may be done in an open transaction before it is counted as
// suspicious. The default is half a second; with 0 and less none is.
func Idle(d time.Duration) Option { return func(c *config) { c.limits.Idle = max(d, 0) } }

// NotEnded is how long a transaction may be idle before it is counted as one that nobody
// ends. The default is a minute; with 0 and less none is.
func NotEnded(d time.Duration) Option { return func(c *config) { c.limits.NotEnded = max(d, 0) } }

// SlowWait is how long a unit may wait for a connection before that is counted as
// suspicious. The default is a second; with 0 and less no wait is.
func SlowWait(d time.Duration) Option { return func(c *config) { c.limits.Wait = max(d, 0) } }

// Savepoints is how many of a transaction may be live before that is counted as
// suspicious. The default is 64; with 0 and less any number may.
func Savepoints(n int) Option { return func(c *config) { c.limits.Savepoints = max(n, 0) } }

// Repetitions is how often one unit may run the same query before it is counted as
// suspicious. The default is 25; with 0 and less none is.
func Repetitions(n int) Option { return func(c *config) { c.limits.Repetitions = max(n, 0) } }

// observer makes the spans, and measures what they last.
type observer struct {
	*config
	*measures
	tracer trace.Tracer
}

// found counts what is suspicious, and notes it in the span in which it happened.
func (o *observer) found(ctx context.Context, u *follow.Unit, f follow.Finding) {
	o.suspicious(ctx, u.Event().Name, f.Suspicion.String())
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	attrs := []attribute.KeyValue{attribute.String("dbscope.suspicion", f.Suspicion.String())}
	if at := f.Opened.String(); at != "" {
		attrs = append(attrs, attribute.String("dbscope.opened", at))
	}
	if at := f.At.String(); at != "" {
		attrs = append(attrs, attribute.String("dbscope.at", at))
	}
	span.AddEvent("dbscope.suspicion", trace.WithAttributes(attrs...))
}

func (o *observer) over(ctx context.Context, u *follow.Unit, e observe.Event) {
	o.unitOver(ctx, e, u.State().Idle)
}

func (o *observer) retry(ctx context.Context, _ *follow.Unit, e observe.Event) {
	o.retried(ctx, e.Name)
}
