package otelscope

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/dbscope/dbscope/internal/follow"
	"github.com/dbscope/dbscope/observe"
)

// Start implements [observe.Observer].
func (o *observer) Start(ctx context.Context, e observe.Event) (context.Context, observe.Span) {
	switch e.Kind {
	case observe.Unit:
		around := trace.SpanContextFromContext(ctx)
		ctx, span := o.tracer.Start(ctx, unitName(e.Name), trace.WithTimestamp(e.Time), trace.WithAttributes(o.attributes...))
		return ctx, &unit{observer: o, span: span, around: around}
	case observe.Wait: // this and the others outside of units
		o.waits(ctx, e, 1)
	case observe.Connection:
		o.used(ctx, e, 1)
	case observe.Statement, observe.Prepare:
	default:
		return ctx, nil
	}
	return ctx, &part{observer: o}
}

func unitName(name string) string {
	if name == "" {
		return "unit of work"
	}
	return name
}

// unit is the span of one.
type unit struct {
	*observer
	span   trace.Span
	around trace.SpanContext // the span that it began in
}

// inside returns the context for what is done in the unit: where the application has begun
// no span of its own inside of it, which is then the nearest, that of the given span.
func (u *unit) inside(ctx context.Context, span trace.Span) context.Context {
	switch now := trace.SpanContextFromContext(ctx); {
	case now.Equal(u.around), now.Equal(u.span.SpanContext()), !now.IsValid():
		return trace.ContextWithSpan(ctx, span)
	}
	return ctx
}

// Start implements [observe.Observer].
func (u *unit) Start(ctx context.Context, e observe.Event) (context.Context, observe.Span) {
	switch e.Kind {
	case observe.Wait:
		u.waits(ctx, e, 1)
		ctx, span := u.start(u.inside(ctx, u.span), "wait for a connection", trace.SpanKindInternal, e)
		return ctx, &part{u.observer, span}
	case observe.Connection:
		u.used(ctx, e, 1)
		return ctx, &part{observer: u.observer}
	case observe.Transaction:
		ctx, span := u.start(u.inside(ctx, u.span), "transaction", trace.SpanKindInternal, e)
		return ctx, &transaction{unit: u, span: span}
	}
	return ctx, nil
}

// start begins a span for something on a DB.
func (o *observer) start(ctx context.Context, name string, kind trace.SpanKind, e observe.Event) (context.Context, trace.Span) {
	k := key{kind: "operation", db: e.DB, host: e.Host}
	if kind == trace.SpanKindClient {
		k.operation = name
	}
	return o.tracer.Start(ctx, name, o.of(k).starts[kind]...)
}

// End implements [observe.Span].
func (u *unit) End(_ context.Context, e observe.Event) {
	if !u.span.IsRecording() {
		u.span.End()
		return
	}
	u.span.SetName(unitName(e.Name))
	u.span.SetAttributes(
		attribute.String("dbscope.unit.outcome", outcome(e.Outcome)), attribute.Int("dbscope.unit.transactions", e.Transactions),
		attribute.Bool("dbscope.unit.read_only", e.ReadOnly))
	if e.Attempt > 0 {
		u.span.SetAttributes(attribute.Int("dbscope.unit.attempt", e.Attempt))
	}
	u.end(u.span, e)
}

// end ends a span.
func (o *observer) end(span trace.Span, e observe.Event) {
	if e.Err != nil && span.IsRecording() {
		text := ""
		if o.texts {
			text = e.Err.Error()
		}
		span.SetStatus(codes.Error, text)
		span.SetAttributes(semconv.ErrorTypeKey.String(follow.ErrorName(e.Err)))
	}
	span.End()
}

// part is something that has nothing inside.
type part struct {
	*observer
	span trace.Span // or nil
}

// Start implements [observe.Observer].
func (p *part) Start(ctx context.Context, _ observe.Event) (context.Context, observe.Span) {
	return ctx, nil
}

// End implements [observe.Span].
func (p *part) End(ctx context.Context, e observe.Event) {
	if p.span != nil {
		p.end(p.span, e)
	}
	switch e.Kind {
	case observe.Wait:
		p.waited(ctx, e)
	case observe.Connection:
		p.used(ctx, e, -1)
		p.held(ctx, e)
	default:
		p.operation(ctx, e)
	}
}

// transaction is the span of one. Statements are measured, and have no spans here.
type transaction struct {
	unit *unit
	span trace.Span
}

// Start implements [observe.Observer].
func (t *transaction) Start(ctx context.Context, e observe.Event) (context.Context, observe.Span) {
	ctx = t.unit.inside(ctx, t.span)
	switch e.Kind {
	case observe.Commit, observe.Rollback:
		ctx, span := t.unit.start(ctx, operationName(e), trace.SpanKindClient, e)
		return ctx, &part{t.unit.observer, span}
	}
	return ctx, &part{observer: t.unit.observer}
}

// End implements [observe.Span].
func (t *transaction) End(ctx context.Context, e observe.Event) {
	if t.span.IsRecording() {
		t.span.SetAttributes(
			attribute.String("dbscope.transaction.outcome", outcome(e.Outcome)),
			attribute.Bool("dbscope.transaction.read_only", e.ReadOnly), attribute.Bool("dbscope.transaction.replica", e.Replica))
	}
	t.unit.end(t.span, e)
	t.unit.transactionOver(ctx, e)
}
