package model_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
)

// trace is what happened, in order. Model and reality each write one.
type trace struct {
	mu      sync.Mutex
	events  []*event
	pending []pending // in the model: goroutines of this one
	others  []*other  // in reality
	cut     *cut      // in the model: of a function of a Group
}

type event struct {
	step    *step
	what    string
	reports []int // how many errors each call of OnHookError was told of, sorted
	members []*trace

	err  error    // in reality
	asIs bool     // in reality it was the function's own error, unchanged
	want expected // in the model
}

func (t *trace) add(s *step, what string) *event {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := &event{step: s, what: what}
	t.events = append(t.events, e)
	return e
}

func (t *trace) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.events)
}

// sortFrom sorts what happened in several goroutines at once: each step but once.
func (t *trace) sortFrom(i int) {
	slices.SortStableFunc(t.events[i:], func(a, b *event) int {
		return cmp.Or(cmp.Compare(a.number(), b.number()), cmp.Compare(a.what, b.what))
	})
}

func (e *event) number() int {
	if e.step == nil {
		return 0
	}
	return e.step.number
}

// expected is what an error must be. The zero value is success.
type expected struct {
	all      []error // it is each of these
	anyOf    []error // and one of these
	failed   bool    // or just any error
	asIs     bool    // it is the function's own, unchanged
	outcomes []string
	anyOrder bool // of the outcomes
}

func is(targets ...error) expected { return expected{all: targets} }

// refused is by any of several rules at once; nothing says which one answers.
func refused(reasons []error) expected { return expected{anyOf: reasons} }

func (x expected) isNil() bool { return len(x.all) == 0 && len(x.anyOf) == 0 && !x.failed }

// and is both errors, joined.
func (x expected) and(y expected) expected {
	if x.isNil() {
		return y
	}
	if y.isNil() {
		return x
	}
	j := expected{all: slices.Concat(x.all, y.all), anyOf: x.anyOf, failed: x.failed || y.failed}
	if len(x.anyOf) == 0 {
		j.anyOf = y.anyOf
	}
	if j.outcomes, j.anyOrder = x.outcomes, x.anyOrder; x.outcomes == nil {
		j.outcomes, j.anyOrder = y.outcomes, y.anyOrder
	}
	return j
}

func (x expected) String() string {
	if x.isNil() {
		return "no error"
	}
	var parts []string
	for _, err := range x.all {
		parts = append(parts, fmt.Sprintf("%q", err))
	}
	if len(x.anyOf) > 0 {
		parts = append(parts, fmt.Sprintf("one of %q", x.anyOf))
	}
	if len(parts) == 0 {
		parts = append(parts, "some error")
	}
	if x.outcomes != nil {
		parts = append(parts, fmt.Sprintf("a CommitError of %q", x.outcomes))
	}
	return strings.Join(parts, " and ")
}

// accepts says what is wrong with an error, or nothing.
func (x expected) accepts(err error) string {
	target := func(target error) bool { return errors.Is(err, target) }
	switch {
	case x.isNil() != (err == nil), len(x.anyOf) > 0 && !slices.ContainsFunc(x.anyOf, target):
		return fmt.Sprintf("got %v, want %v", err, x)
	case errors.Is(err, dbscope.ErrCommitUnknown) && !slices.Contains(x.all, dbscope.ErrCommitUnknown) &&
		!x.failed && !errors.Is(err, context.Canceled): // else it may be a part, or the cause
		return fmt.Sprintf("got %v, but no commit was to be unknown", err)
	}
	for _, one := range x.all {
		if !target(one) {
			return fmt.Sprintf("got %v, want %v", err, x)
		}
	}
	if x.outcomes != nil && !slices.ContainsFunc(outcomesIn(err), x.isOutcomes) {
		return fmt.Sprintf("got the outcomes %q of %v, want %v", outcomesIn(err), err, x)
	}
	return ""
}

func (x expected) isOutcomes(got []string) bool {
	want := x.outcomes
	if x.anyOrder {
		got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	}
	return slices.Equal(got, want)
}

// outcomesIn lists those of each CommitError in an error. There may be several:
// one is what cancelled a function of a Group, say.
func outcomesIn(err error) (all [][]string) {
	if failed, is := err.(*dbscope.CommitError); is { //nolint:errorlint // this one
		var one []string
		for _, o := range failed.Outcomes {
			one = append(one, o.DB+" "+o.State.String())
		}
		all = append(all, one)
	}
	switch wrapper := err.(type) { //nolint:errorlint // one level at a time
	case interface{ Unwrap() error }:
		return append(all, outcomesIn(wrapper.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, e := range wrapper.Unwrap() {
			all = append(all, outcomesIn(e)...)
		}
	}
	return all
}

// told is an outcome as a CommitError has it.
func told(db int, o outcome) string {
	state := [...]driver.Outcome{committed: driver.Committed, rolledBack: driver.RolledBack, unknown: driver.Unknown}
	return dbNames[db] + " " + state[o].String()
}

// compare says where reality parts from the model, or nothing.
func compare(real, model *trace) string {
	for i, want := range model.events {
		if i == len(real.events) {
			return fmt.Sprintf("step %s did not happen", want)
		}
		if wrong := compareEvent(real.events[i], want); wrong != "" {
			return fmt.Sprintf("step %s: %s", want, wrong)
		}
	}
	if more := len(model.events); more < len(real.events) {
		return fmt.Sprintf("step %s should not happen", real.events[more])
	}
	return ""
}

func compareEvent(got, want *event) string {
	switch {
	case got.step != want.step || got.what != want.what:
		return fmt.Sprintf("step %s happened instead", got)
	case !slices.Equal(got.reports, want.reports):
		return fmt.Sprintf("OnHookError was told of %v errors, want %v", got.reports, want.reports)
	case want.want.asIs && !got.asIs:
		return fmt.Sprintf("the function's error came back as %v", got.err)
	}
	if wrong := want.want.accepts(got.err); wrong != "" {
		return wrong
	}
	for i := range want.members {
		if wrong := compare(got.members[i], want.members[i]); wrong != "" {
			return fmt.Sprintf("member %d: %s", i+1, wrong)
		}
	}
	return ""
}

func (e *event) String() string {
	if e.step == nil {
		return "0 (" + e.what + ")"
	}
	return fmt.Sprintf("%d (%s)", e.step.number, e.what)
}

// String lists the events with their errors.
func (t *trace) String() string {
	var b strings.Builder
	for _, e := range t.events {
		fmt.Fprintf(&b, "    %s", e)
		switch {
		case e.err != nil:
			fmt.Fprintf(&b, ": %v", strings.ReplaceAll(e.err.Error(), "\n", "; "))
		case !e.want.isNil():
			fmt.Fprintf(&b, ": %v", e.want)
		}
		b.WriteByte('\n')
		for i, m := range e.members {
			fmt.Fprintf(&b, "    member %d:\n%s", i+1, m)
		}
	}
	return b.String()
}
