package otelscope_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/observe"
	"github.com/dbscope/dbscope/observe/otelscope"
)

var (
	ok      = check.OK
	errStop = errors.New("the secret of a user")
)

// sdk keeps spans and metrics in memory.
type sdk struct {
	t        *testing.T
	spans    *tracetest.InMemoryExporter
	tracers  *trace.TracerProvider
	reader   *metric.ManualReader
	observer observe.Observer
}

func newSDK(t *testing.T, opts ...otelscope.Option) *sdk {
	s := &sdk{t: t, spans: tracetest.NewInMemoryExporter(), reader: metric.NewManualReader()}
	s.tracers = trace.NewTracerProvider(trace.WithSyncer(s.spans))
	meters := metric.NewMeterProvider(metric.WithReader(s.reader))
	s.observer = otelscope.New(append([]otelscope.Option{
		otelscope.TracerProvider(s.tracers), otelscope.MeterProvider(meters), otelscope.System("postgresql"),
	}, opts...)...)
	return s
}

// tree returns the spans, each with those inside it.
func (s *sdk) tree() string {
	all := s.spans.GetSpans()
	slices.SortFunc(all, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
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
	add([8]byte{}, 0)
	return strings.Join(lines, "\n")
}

func (s *sdk) wantTree(want ...string) {
	s.t.Helper()
	if got := s.tree(); got != strings.Join(want, "\n") {
		s.t.Errorf("the spans are\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func (s *sdk) span(name string) tracetest.SpanStub {
	s.t.Helper()
	for _, span := range s.spans.GetSpans() {
		if span.Name == name {
			return span
		}
	}
	s.t.Fatalf("there is no span %q", name)
	return tracetest.SpanStub{}
}

// measured returns the points of all metrics: their names and attributes, and how many
// values there are, or their sum.
func (s *sdk) measured() map[string]string {
	var all metricdata.ResourceMetrics
	ok(s.t, s.reader.Collect(context.Background(), &all))
	points := map[string]string{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			add := func(attrs attribute.Set, value string) {
				points[m.Name+" "+m.Unit+" {"+attrs.Encoded(attribute.DefaultEncoder())+"}"] = value
			}
			switch data := m.Data.(type) {
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, fmt.Sprint(p.Count, " values"))
				}
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, fmt.Sprint(p.Value))
				}
			default:
				s.t.Errorf("%s has unexpected data", m.Name)
			}
		}
	}
	return points
}

func (s *sdk) wantMeasured(want map[string]string) {
	s.t.Helper()
	got := s.measured()
	for _, point := range slices.Sorted(maps.Keys(got)) {
		if want[point] != got[point] {
			s.t.Errorf("%s: %s, want %q", point, got[point], want[point])
		}
		delete(want, point)
	}
	for point, value := range want {
		s.t.Errorf("%s: missing, want %s", point, value)
	}
}

func attributes(span tracetest.SpanStub) string {
	set := attribute.NewSet(span.Attributes...)
	return set.Encoded(attribute.DefaultEncoder())
}

func store(ctx context.Context, db *dbscope.DB[*drivertest.Tx]) error {
	tx, err := db.Session(ctx)
	if err != nil {
		return err
	}
	return errors.Join(tx.Exec(ctx, "insert into orders"), tx.Exec(ctx, "insert into lines"))
}

func TestAUnitIsASpanWithItsWaitTransactionAndCommitInside(t *testing.T) {
	s := newSDK(t)
	db := drivertest.NewFake().DB()
	ctx, request := s.tracers.Tracer("app").Start(t.Context(), "request")
	ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
		ctx, own := s.tracers.Tracer("app").Start(ctx, "own")
		defer own.End()
		return store(ctx, db)
	}, dbscope.Observe(s.observer), dbscope.Name("job")))
	request.End()
	s.wantTree("request", ". job", ". . own", ". . . wait for a connection", ". . . transaction", ". . . . COMMIT")
	span := s.span("job")
	if got, want := attributes(span), "dbscope.unit.attempt=1,dbscope.unit.outcome=committed,dbscope.unit.read_only=false,dbscope.unit.transactions=1"; got != want {
		t.Errorf("the unit's attributes are %s, want %s", got, want)
	}
	if got, want := attributes(s.span("COMMIT")), "db.namespace=fake,db.operation.name=COMMIT,db.system.name=postgresql"; got != want {
		t.Errorf("COMMIT's attributes are %s, want %s", got, want)
	}
	if got, want := attributes(s.span("transaction")), "db.namespace=fake,db.system.name=postgresql,dbscope.transaction.outcome=committed,"+
		"dbscope.transaction.read_only=false,dbscope.transaction.replica=false"; got != want {
		t.Errorf("the transaction's attributes are %s, want %s", got, want)
	}
}

func TestAUnitOfADBsObserverIsASpanFromItsBeginning(t *testing.T) {
	s := newSDK(t)
	db := drivertest.NewFake().DB(dbscope.Observe(s.observer), dbscope.Host("db1"))
	ctx, request := s.tracers.Tracer("app").Start(t.Context(), "request")
	before := time.Now()
	ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
		time.Sleep(2 * time.Millisecond)
		return store(ctx, db)
	}))
	request.End()
	s.wantTree("request", ". unit of work", ". . wait for a connection", ". . transaction", ". . . COMMIT")
	if span := s.span("unit of work"); span.StartTime.Before(before) || span.EndTime.Sub(span.StartTime) < 2*time.Millisecond {
		t.Errorf("the span lasts from %v to %v", span.StartTime, span.EndTime)
	}
	if got := attributes(s.span("transaction")); !strings.Contains(got, "server.address=db1") {
		t.Errorf("the transaction's attributes are %s", got)
	}
}

func TestAStatementsContextHasTheSpanOfItsTransaction(t *testing.T) {
	for name, ofUnit := range map[string]bool{"an observer of the unit": true, "an observer of the DB": false} {
		t.Run(name, func(t *testing.T) {
			s := newSDK(t)
			dbOptions, options := []dbscope.DBOption{dbscope.Observe(s.observer)}, []dbscope.Option(nil)
			if ofUnit {
				dbOptions, options = nil, []dbscope.Option{dbscope.Observe(s.observer)}
			}
			db := dbscope.New(traced{drivertest.NewFake().Adapter(), s}, dbOptions...)
			ctx, request := s.tracers.Tracer("app").Start(t.Context(), "request")
			ok(t, dbscope.Run(ctx, func(ctx context.Context) error { return store(ctx, db) }, options...))
			request.End()
			want := []string{"request", ". unit of work", ". . wait for a connection", ". . transaction", ". . . driver", ". . . driver", ". . . COMMIT"}
			s.wantTree(want...)
		})
	}
}

// traced is an adapter whose driver makes a span for each statement.
type traced struct {
	driver.Adapter[*drivertest.Tx]
	s *sdk
}

func (a traced) Handle(session driver.Session) (*drivertest.Tx, func(), error) {
	return a.Adapter.Handle(tracedSession{session, a.s})
}

// tracedSession begins a span where the driver would, with the context that the observer
// returned.
type tracedSession struct {
	driver.Session
	s *sdk
}

func (t tracedSession) Observer() driver.StatementObserver {
	return tracedStatement{t.Session.Observer(), t.s}
}

type tracedStatement struct {
	driver.StatementObserver
	s *sdk
}

func (t tracedStatement) Start(ctx context.Context, st driver.Statement) context.Context {
	ctx = t.StatementObserver.Start(ctx, st)
	_, span := t.s.tracers.Tracer("driver").Start(ctx, "driver")
	span.End()
	return ctx
}

func TestWhatFailsSaysSoWithoutItsText(t *testing.T) {
	for _, texts := range []bool{false, true} {
		var opts []otelscope.Option
		if texts {
			opts = append(opts, otelscope.ErrorText())
		}
		s := newSDK(t, opts...)
		f := drivertest.NewFake()
		f.Inject("commit", drivertest.Fault{Err: fmt.Errorf("%w: %w", sqlState("40001"), errStop), Outcome: driver.RolledBack})
		db := f.DB(dbscope.Observe(s.observer))
		check.Is(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return store(ctx, db) }), errStop)
		for _, name := range []string{"unit of work", "transaction", "COMMIT"} {
			span := s.span(name)
			if span.Status.Code != codes.Error || strings.Contains(span.Status.Description, "secret") != texts {
				t.Errorf("the status of %s is %v", name, span.Status)
			}
			if !strings.Contains(attributes(span), "error.type=40001") {
				t.Errorf("the attributes of %s are %s", name, attributes(span))
			}
		}
	}
}

type sqlState string

func (s sqlState) SQLState() string { return string(s) }
func (s sqlState) Error() string    { return "SQLSTATE " + string(s) }

func TestWhatUnitsDoIsMeasured(t *testing.T) {
	s := newSDK(t, otelscope.Attributes(attribute.String("region", "eu")))
	f := drivertest.NewFake()
	db := f.DB(dbscope.Observe(s.observer), dbscope.Host("db1"))
	f.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return store(ctx, db) },
		dbscope.Name("job"), dbscope.Retry(dbscope.RetryPolicy{MinDelay: time.Microsecond})))
	const (
		where  = "db.namespace=fake"
		server = ",db.system.name=postgresql,region=eu,server.address=db1}"
		pool   = "{db.client.connection.pool.name=fake@db1,region=eu}"
		tx     = "dbscope.transaction.read_only=false,dbscope.transaction.replica=false,dbscope.unit.name=job"
	)
	s.wantMeasured(map[string]string{
		"db.client.operation.duration s {" + where + ",db.operation.name=BEGIN" + server:                                                                                  "2 values",
		"db.client.operation.duration s {" + where + ",db.operation.name=INSERT" + server:                                                                                 "4 values",
		"db.client.operation.duration s {" + where + ",db.operation.name=COMMIT" + server:                                                                                 "1 values",
		"db.client.operation.duration s {" + where + ",db.operation.name=COMMIT,db.system.name=postgresql,error.type=dbscope.ErrRolledBack,region=eu,server.address=db1}": "1 values",
		"db.client.connection.wait_time s " + pool:                                                                                                                        "2 values",
		"db.client.connection.use_time s " + pool:                                                                                                                         "2 values",
		"db.client.connection.pending_requests {request} " + pool:                                                                                                         "0",
		"db.client.connection.count {connection} {db.client.connection.pool.name=fake@db1,db.client.connection.state=used,region=eu}":                                     "0",
		"dbscope.transaction.duration s {db.namespace=fake,dbscope.transaction.outcome=committed," + tx + ",region=eu}":                                                   "1 values",
		"dbscope.transaction.duration s {db.namespace=fake,dbscope.transaction.outcome=rolled_back," + tx + ",error.type=dbscope.ErrRolledBack,region=eu}":                "1 values",
		"dbscope.unit.duration s {dbscope.unit.name=job,dbscope.unit.outcome=committed,region=eu}":                                                                        "1 values",
		"dbscope.unit.duration s {dbscope.unit.name=job,dbscope.unit.outcome=rolled_back,error.type=dbscope.ErrRolledBack,region=eu}":                                     "1 values",
		"dbscope.unit.idle_in_transaction s {dbscope.unit.name=job,region=eu}":                                                                                            "2 values",
		"dbscope.unit.retries {attempt} {dbscope.unit.name=job,region=eu}":                                                                                                "1",
	})
}

func TestStatementsThatAreMeasuredElsewhereAreNotMeasuredTwice(t *testing.T) {
	s := newSDK(t, otelscope.MeasuredElsewhere())
	db := drivertest.NewFake().DB(dbscope.Observe(s.observer))
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return store(ctx, db) }))
	for point := range s.measured() {
		if strings.HasPrefix(point, "db.client.operation.duration") {
			t.Errorf("measured %s", point)
		}
	}
}

func TestWhatIsSuspiciousIsCountedAndNotedInItsSpan(t *testing.T) {
	s := newSDK(t, otelscope.Repetitions(3))
	db := drivertest.NewFake().DB(dbscope.Observe(s.observer))
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		tx, err := db.Session(ctx)
		ok(t, err)
		for range 3 {
			rows, err := tx.Query(ctx, "select 1")
			ok(t, err)
			ok(t, rows.Close())
		}
		return nil
	}, dbscope.Observe(s.observer)))
	if n := s.measured()["dbscope.unit.suspicions {suspicion} {dbscope.suspicion=repeated}"]; n != "1" {
		t.Errorf("counted %q", n)
	}
	var noted int
	for _, span := range s.spans.GetSpans() {
		for _, e := range span.Events {
			noted++
			if set := attribute.NewSet(e.Attributes...); !strings.Contains(set.Encoded(attribute.DefaultEncoder()), "otelscope_test.go:") {
				t.Errorf("noted %v", e)
			}
		}
	}
	if noted != 1 {
		t.Errorf("noted %d times", noted)
	}
}

func TestAWaitInVainIsCounted(t *testing.T) {
	synctest.Test(t, waitInVain)
}

func waitInVain(t *testing.T) {
	s := newSDK(t)
	f := drivertest.NewFake()
	f.LimitConns(1)
	db := f.DB(dbscope.Observe(s.observer))
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, store(ctx, db))
		waits, cancel := context.WithTimeout(dbscope.WithoutScope(ctx), time.Millisecond)
		defer cancel()
		check.Is(t, dbscope.Run(waits, func(ctx context.Context) error { return store(ctx, db) }), context.DeadlineExceeded)
		return nil
	}))
	if n := s.measured()["db.client.connection.timeouts {timeout} {db.client.connection.pool.name=fake}"]; n != "1" {
		t.Errorf("counted %q in %v", n, s.measured())
	}
}

func TestStatementsOutsideOfUnitsAreMeasured(t *testing.T) {
	s := newSDK(t)
	f := drivertest.NewFake()
	db := f.DB(dbscope.Observe(s.observer), dbscope.AllowUnscoped())
	session, err := dbscope.Gate(db).Session(t.Context())
	ok(t, err)
	tx, _, err := f.Adapter().Handle(session)
	ok(t, err)
	ok(t, tx.Exec(t.Context(), "insert into orders"))
	got := s.measured()
	if n := got["db.client.operation.duration s {db.namespace=fake,db.operation.name=INSERT,db.system.name=postgresql}"]; n != "1 values" {
		t.Errorf("measured %v", got)
	}
	if n := got["db.client.connection.pending_requests {request} {db.client.connection.pool.name=fake}"]; n != "0" {
		t.Errorf("measured %v", got)
	}
	if spans := s.tree(); spans != "" {
		t.Errorf("the spans are %s", spans)
	}
}
