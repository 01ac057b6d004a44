// Package slogscope writes to the log what deserves a look. There is a line for each unit
// of work that failed, was run again or was slow, and one for each thing that is
// suspicious, such as a transaction that is open while nothing is done in it.
//
//	shop := pgxscope.Open(dsn, dbscope.Observe(slogscope.New()))
//
// A unit of which there is nothing to say has no line. docs/observe.md lists all lines
// and their fields.
package slogscope

import (
	"context"
	"log/slog"
	"time"

	"github.com/dbscope/dbscope/internal/follow"
	"github.com/dbscope/dbscope/observe"
)

// New returns an observer that writes lines. It is for as many DBs and units as one
// likes; where it is given to a DB and to a unit, each line is written once.
func New(opts ...Option) observe.Observer {
	l := &logger{
		limits: follow.Default,
		failed: slog.LevelError, retried: slog.LevelWarn, slow: slog.LevelWarn, suspicious: slog.LevelWarn,
	}
	for _, set := range opts {
		set(l)
	}
	return follow.New(follow.Config{Limits: l.limits, Libraries: l.libraries, Found: l.found, Over: l.over, Retry: l.again})
}

// Option changes what is written, and how.
type Option func(*logger)

type logger struct {
	to         *slog.Logger // nil for the default one, whichever that is when a line is written
	limits     follow.Limits
	libraries  []string
	texts      bool
	expected   func(error) bool
	failed     slog.Level
	retried    slog.Level
	slow       slog.Level
	suspicious slog.Level
}

// Logger is what the lines are written to. The default is [slog.Default].
func Logger(to *slog.Logger) Option { return func(l *logger) { l.to = to } }

// Levels are those of the lines about units that have failed, that are run again, that
// were slow, and of what is suspicious. The default is [slog.LevelError], and three times
// [slog.LevelWarn].
func Levels(failed, retried, slow, suspicious slog.Level) Option {
	return func(l *logger) { l.failed, l.retried, l.slow, l.suspicious = failed, retried, slow, suspicious }
}

// Slow is how long a unit may take before it is slow. The default is a second; with 0 and
// less none is.
func Slow(d time.Duration) Option { return func(l *logger) { l.limits.Slow = max(d, 0) } }

// Idle is how long nothing may be done in an open transaction. The default is half a
// second, which a machine under load does not come to by itself; what hashes passwords
// or renders pages in a transaction takes less, and shows with 50 milliseconds. With 0
// and less nothing is said of idle transactions.
func Idle(d time.Duration) Option { return func(l *logger) { l.limits.Idle = max(d, 0) } }

// NotEnded is how long a transaction may be idle before it counts as one that nobody
// ends. The default is a minute; with 0 and less none does.
func NotEnded(d time.Duration) Option { return func(l *logger) { l.limits.NotEnded = max(d, 0) } }

// SlowWait is how long a unit may wait for a connection. The default is a second; with 0
// and less there is no line about that.
func SlowWait(d time.Duration) Option { return func(l *logger) { l.limits.Wait = max(d, 0) } }

// Repetitions is how often one unit may run the same query: the values in it do not
// count, and batches are not counted. The default is 25; with 0 and less nothing is said.
func Repetitions(n int) Option { return func(l *logger) { l.limits.Repetitions = max(n, 0) } }

// Savepoints is how many of a transaction may be live. The default is 64: with more of
// them PostgreSQL has to look for the state of each on its disk, which slows down every
// connection. With 0 and less nothing is said.
func Savepoints(n int) Option { return func(l *logger) { l.limits.Savepoints = max(n, 0) } }

// StatementText writes the text of statements too, where a line is about one. Arguments
// are never written, but values that the application has put into the text are. The
// default is to leave it out.
func StatementText() Option { return func(l *logger) { l.texts = true } }

// Expected leaves out the lines of units that fail with errors for which it returns true, such
// as those that tell a caller of a mistake in a form. The default is that none is.
func Expected(is func(err error) bool) Option { return func(l *logger) { l.expected = is } }

// Libraries are the beginnings of import paths whose lines are not taken for the place in
// the code where something happens. Those of the usual ORMs and drivers are known.
func Libraries(prefixes ...string) Option {
	return func(l *logger) { l.libraries = append(l.libraries, prefixes...) }
}

func (l *logger) log(ctx context.Context, level slog.Level, message string, attrs []slog.Attr) {
	to := l.to
	if to == nil {
		to = slog.Default()
	}
	to.LogAttrs(ctx, level, message, attrs...)
}

// over writes the line of a unit, if there is one.
func (l *logger) over(ctx context.Context, u *follow.Unit, e observe.Event) {
	isSlow := l.limits.Slow > 0 && e.Duration > l.limits.Slow
	switch failed := e.Err != nil && (l.expected == nil || !l.expected(e.Err)); {
	case failed && e.RunAgain:
		l.log(ctx, l.retried, "unit of work failed and is run again", l.whole(u, e))
	case failed:
		l.log(ctx, l.failed, "unit of work failed", l.whole(u, e))
	case isSlow:
		l.log(ctx, l.slow, "unit of work was slow", l.whole(u, e))
	}
}

// again writes the line of what is run again though its unit has not said that it failed:
// one whose handler has answered that the client is to blame, or an Atomic block.
func (l *logger) again(ctx context.Context, u *follow.Unit, e observe.Event) {
	message := "a block of the unit failed and is run again"
	if s := u.State(); s.Over {
		if s.Event.Err != nil {
			return // it has a line already
		}
		message = "unit of work was undone and is run again"
	}
	attrs := append(of(u.Event()), slog.Int("attempt", e.Attempt-1))
	if e.Err != nil {
		attrs = append(attrs, slog.Any("error", e.Err))
	}
	l.log(ctx, l.retried, message, attrs)
}

// whole are the fields of a line about a unit.
func (l *logger) whole(u *follow.Unit, e observe.Event) []slog.Attr {
	s := u.State()
	attrs := append(of(e),
		slog.Duration("duration", e.Duration), slog.String("outcome", e.Outcome.String()),
		slog.Int("transactions", e.Transactions), slog.Int("statements", s.Statements),
		slog.Duration("waited", s.Waited), slog.Duration("idle", s.Idle))
	if e.Attempt > 0 {
		attrs = append(attrs, slog.Int("attempt", e.Attempt))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.Any("error", e.Err))
	}
	if s.Failure != nil && s.Failure != e.Err { //nolint:errorlint // the very one would be written twice
		attrs = append(attrs, slog.Any("statement_error", s.Failure))
	}
	return attrs
}

// of are the fields that say which unit it is.
func of(e observe.Event) []slog.Attr {
	attrs := append(make([]slog.Attr, 0, 12), slog.Uint64("unit", e.Unit), slog.String("name", e.Name))
	if e.Parent != 0 {
		attrs = append(attrs, slog.Uint64("parent", e.Parent))
	}
	return attrs
}

// found writes the line of something suspicious.
func (l *logger) found(ctx context.Context, u *follow.Unit, f follow.Finding) {
	attrs := append(of(u.Event()), slog.String("suspicion", f.Suspicion.String()), slog.String("db", f.DB))
	if f.Duration > 0 {
		attrs = append(attrs, slog.Duration("duration", f.Duration))
	}
	if f.Count > 0 {
		attrs = append(attrs, slog.Int("count", f.Count), slog.Int("limit", f.Limit))
	}
	if at := f.Opened.String(); at != "" {
		attrs = append(attrs, slog.String("opened", at))
	}
	if at := f.At.String(); at != "" {
		attrs = append(attrs, slog.String("at", at))
	}
	switch {
	case f.Text == "":
	case f.Suspicion == follow.Call:
		attrs = append(attrs, slog.String("called", f.Text))
	case l.texts:
		attrs = append(attrs, slog.String("statement", f.Text))
	}
	l.log(ctx, l.suspicious, f.Sentence(), attrs)
}
