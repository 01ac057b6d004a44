package hooks

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// RunAll runs the hooks of the list that begins with first, with run, and reports
// their errors and panics, joined, where there are any. All run, also where one
// ends its goroutine.
func RunAll(first *Hook, run func(func(context.Context) error) error, report func(error)) {
	if first == nil {
		return
	}
	var failures []error
	defer func() {
		if len(failures) > 0 {
			report(errors.Join(failures...))
		}
	}()
	due := List{Head: first}
	due.sort()
	runEach(due.Head, run, &failures)
}

func runEach(h *Hook, run func(func(context.Context) error) error, failures *[]error) {
	if h == nil {
		return
	}
	defer runEach(h.Next, run, failures)
	err := errors.New("an after-hook ended its goroutine")
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("an after-hook panicked: %v\n%s", p, debug.Stack())
		}
		if err != nil {
			*failures = append(*failures, err)
		}
	}()
	err = run(h.Fn)
}
