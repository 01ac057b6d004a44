package scopetest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/dbscope/dbscope/internal/follow"
	"github.com/dbscope/dbscope/observe"
)

// Strict returns a context of the test, made from one of [Rollback], in which units fail
// the test that do what slows down a service: which
//
//   - call another service while a transaction is open, where that is called through
//     package heldscope; the failure has both places in the code,
//   - run the same query many times, 25 unless [Repetitions] says otherwise,
//   - have more than 64 live savepoints, or
//   - leave rows open for the end of the transaction to close.
//
// What depends on time does not count, for tests are slow and fast. It may be called from
// anywhere in the test, and holds for what is begun with its context.
func Strict(ctx context.Context, opts ...StrictOption) context.Context {
	t := of(ctx)
	t.Helper()
	limits := follow.Limits{Repetitions: follow.Default.Repetitions, Savepoints: follow.Default.Savepoints}
	for _, set := range opts {
		set(&limits)
	}
	r := &reporter{t: t.TB}
	t.Cleanup(r.close)
	t.strict = []observe.Observer{follow.New(follow.Config{Limits: limits, Found: r.found})}
	return t.in(ctx)
}

// StrictOption changes what [Strict] finds.
type StrictOption func(*follow.Limits)

// Repetitions is how often one unit may run the same query, whatever the values in it.
// The default is 25; with 0 and less it does not count.
func Repetitions(n int) StrictOption { return func(l *follow.Limits) { l.Repetitions = max(n, 0) } }

// reporter fails the test, for as long as it runs.
type reporter struct {
	mu   sync.Mutex
	t    testing.TB
	over bool
}

func (r *reporter) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
}

func (r *reporter) found(_ context.Context, u *follow.Unit, f follow.Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || f.Suspicion == follow.Busy || f.Suspicion == follow.AfterEnd {
		return
	}
	text := "scopetest: " + f.Sentence()
	if name := u.Event().Name; name != "" {
		text += fmt.Sprintf(", in the unit %q", name)
	}
	if at := f.At.String(); at != "" {
		text += "\n\tat " + at
	}
	if at := f.Opened.String(); at != "" {
		text += "\n\tthe transaction was opened at " + at
	}
	if f.Suspicion != follow.Call && f.Text != "" {
		text += "\n\t" + f.Text
	}
	r.t.Error(text)
}
