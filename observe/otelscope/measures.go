package otelscope

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"
	"go.opentelemetry.io/otel/trace"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/follow"
	"github.com/dbscope/dbscope/observe"
)

// measures are the instruments. Those with names of the semantic conventions come from
// their package, which has the names and units.
type measures struct {
	*config
	operations dbconv.ClientOperationDuration
	waitTimes  dbconv.ClientConnectionWaitTime
	useTimes   dbconv.ClientConnectionUseTime
	pending    dbconv.ClientConnectionPendingRequests
	count      dbconv.ClientConnectionCount
	timeouts   dbconv.ClientConnectionTimeouts

	units        metric.Float64Histogram
	idle         metric.Float64Histogram
	transactions metric.Float64Histogram
	retries      metric.Int64Counter
	suspicions   metric.Int64Counter

	kept sync.Map // of a key to its attributes
	n    atomic.Int32
}

// The bounds of histograms, in seconds.
var (
	ofOperations = metric.WithExplicitBucketBoundaries(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
	ofUnits      = metric.WithExplicitBucketBoundaries(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
)

func newMeasures(c *config) *measures {
	m := &measures{config: c}
	meter := c.meters.Meter(scope)
	var errs [11]error
	m.operations, errs[0] = dbconv.NewClientOperationDuration(meter, ofOperations)
	m.waitTimes, errs[1] = dbconv.NewClientConnectionWaitTime(meter, ofOperations)
	m.useTimes, errs[2] = dbconv.NewClientConnectionUseTime(meter, ofUnits)
	m.pending, errs[3] = dbconv.NewClientConnectionPendingRequests(meter)
	m.count, errs[4] = dbconv.NewClientConnectionCount(meter)
	m.timeouts, errs[5] = dbconv.NewClientConnectionTimeouts(meter)
	seconds := metric.WithUnit("s")
	m.units, errs[6] = meter.Float64Histogram("dbscope.unit.duration", seconds, ofUnits,
		metric.WithDescription("Duration of units of work."))
	m.idle, errs[7] = meter.Float64Histogram("dbscope.unit.idle_in_transaction", seconds, ofUnits,
		metric.WithDescription("How long a unit of work had transactions open in which nothing was done."))
	m.transactions, errs[8] = meter.Float64Histogram("dbscope.transaction.duration", seconds, ofUnits,
		metric.WithDescription("Duration of transactions."))
	m.retries, errs[9] = meter.Int64Counter("dbscope.unit.retries", metric.WithUnit("{attempt}"),
		metric.WithDescription("Attempts of units of work after the first."))
	m.suspicions, errs[10] = meter.Int64Counter("dbscope.unit.suspicions", metric.WithUnit("{suspicion}"),
		metric.WithDescription("Things about units of work that deserve a look."))
	if err := errors.Join(errs[:]...); err != nil {
		otel.Handle(err)
	}
	return m
}

// key says which attributes a measurement has. Those of other kinds are zero.
type key struct {
	kind           string // so that sets with other attributes do not meet
	db, host       string
	name, outcome  string // of a unit
	operation      string
	failure, state string
	yes, replica   bool
}

// attributes are those of a key, as spans and instruments want them.
type attributes struct {
	starts  map[trace.SpanKind][]trace.SpanStartOption
	records []metric.RecordOption
	adds    []metric.AddOption
}

// mostKept bounds the attributes that are kept. More are made anew each time.
const mostKept = 5000

// of returns the attributes of a key, and makes them once.
func (m *measures) of(k key) *attributes {
	if known, is := m.kept.Load(k); is {
		return known.(*attributes)
	}
	list := m.list(k)
	set := metric.WithAttributeSet(attribute.NewSet(slices.Clone(list)...))
	a := &attributes{records: []metric.RecordOption{set}, adds: []metric.AddOption{set}}
	if k.kind == "operation" {
		a.starts = map[trace.SpanKind][]trace.SpanStartOption{}
		for _, kind := range []trace.SpanKind{trace.SpanKindInternal, trace.SpanKindClient} {
			a.starts[kind] = []trace.SpanStartOption{trace.WithSpanKind(kind), trace.WithAttributes(list...)}
		}
	}
	if m.n.Add(1) <= mostKept {
		m.kept.Store(k, a)
	}
	return a
}

func (m *measures) list(k key) []attribute.KeyValue {
	attrs := slices.Clone(m.attributes)
	add := func(key attribute.Key, value string) {
		if value != "" {
			attrs = append(attrs, key.String(value))
		}
	}
	switch k.kind {
	case "operation":
		attrs = append(attrs, semconv.DBSystemNameKey.String(m.system))
		add(semconv.DBNamespaceKey, k.db)
		add(semconv.ServerAddressKey, k.host)
		add(semconv.DBOperationNameKey, k.operation)
		add(semconv.DBResponseStatusCodeKey, k.state)
	case "used":
		attrs = append(attrs, semconv.DBClientConnectionStateUsed)
		fallthrough
	case "connection":
		pool := k.db
		if k.host != "" {
			pool += "@" + k.host
		}
		add(semconv.DBClientConnectionPoolNameKey, pool)
	case "transaction":
		add(semconv.DBNamespaceKey, k.db)
		add("dbscope.unit.name", k.name)
		add("dbscope.transaction.outcome", k.outcome)
		attrs = append(attrs, attribute.Bool("dbscope.transaction.read_only", k.yes), attribute.Bool("dbscope.transaction.replica", k.replica))
	case "unit":
		add("dbscope.unit.name", k.name)
		add("dbscope.unit.outcome", k.outcome)
	case "suspicion":
		add("dbscope.unit.name", k.name)
		add("dbscope.suspicion", k.outcome)
	}
	add(semconv.ErrorTypeKey, k.failure)
	return attrs
}

// operation measures a statement.
func (m *measures) operation(ctx context.Context, e observe.Event) {
	if m.statements || errors.Is(e.Err, driver.ErrNotSent) {
		return
	}
	k := key{kind: "operation", db: e.DB, host: e.Host, operation: operationName(e), failure: follow.ErrorName(e.Err)}
	if e.Err != nil {
		k.state = follow.SQLState(e.Err)
	}
	m.operations.Inst().Record(ctx, e.Duration.Seconds(), m.of(k).records...)
}

func connection(e observe.Event) key { return key{kind: "connection", db: e.DB, host: e.Host} }

// waits counts who waits for a connection.
func (m *measures) waits(ctx context.Context, e observe.Event, n int64) {
	m.pending.Inst().Add(ctx, n, m.of(connection(e)).adds...)
}

// waited measures how long a wait took.
func (m *measures) waited(ctx context.Context, e observe.Event) {
	m.waits(ctx, e, -1)
	switch a := m.of(connection(e)); {
	case e.Err == nil:
		m.waitTimes.Inst().Record(ctx, e.Duration.Seconds(), a.records...)
	case errors.Is(e.Err, context.DeadlineExceeded):
		m.timeouts.Inst().Add(ctx, 1, a.adds...)
	}
}

// used counts connections that units have.
func (m *measures) used(ctx context.Context, e observe.Event, n int64) {
	m.count.Inst().Add(ctx, n, m.of(key{kind: "used", db: e.DB, host: e.Host}).adds...)
}

// held measures how long a connection was used.
func (m *measures) held(ctx context.Context, e observe.Event) {
	m.useTimes.Inst().Record(ctx, e.Duration.Seconds(), m.of(connection(e)).records...)
}

func (m *measures) transactionOver(ctx context.Context, e observe.Event) {
	m.transactions.Record(ctx, e.Duration.Seconds(), m.of(key{
		kind: "transaction", db: e.DB, name: e.Name, outcome: outcome(e.Outcome),
		yes: e.ReadOnly, replica: e.Replica, failure: follow.ErrorName(e.Err),
	}).records...)
}

func (m *measures) unitOver(ctx context.Context, e observe.Event, idle time.Duration) {
	k := key{kind: "unit", name: e.Name, outcome: outcome(e.Outcome), failure: follow.ErrorName(e.Err)}
	m.units.Record(ctx, e.Duration.Seconds(), m.of(k).records...)
	if e.Transactions > 0 {
		m.idle.Record(ctx, idle.Seconds(), m.of(key{kind: "unit", name: e.Name}).records...)
	}
}

func (m *measures) retried(ctx context.Context, name string) {
	m.retries.Add(ctx, 1, m.of(key{kind: "unit", name: name}).adds...)
}

func (m *measures) suspicious(ctx context.Context, name, what string) {
	m.suspicions.Add(ctx, 1, m.of(key{kind: "suspicion", name: name, outcome: what}).adds...)
}
