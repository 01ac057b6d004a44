package hooks

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// RunAll runs the hooks of the list that begins with first, with run, and reports
// their errors and panics, joined, where there are any. All run, also where one
// ends its goroutine.
func RunAll(first *Hook, run func(*Hook) error, report func(error)) {
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

func runEach(h *Hook, run func(*Hook) error, failures *[]error) {
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
	err = run(h)
}

// RunBefore runs the hooks that next returns with call, until it returns nil, or until
// the first error. unfinished is called where one did not return.
func RunBefore(next func() *Hook, call func(*Hook) error, unfinished func()) error {
	returned := true
	defer func() {
		if !returned {
			unfinished()
		}
	}()
	for h := next(); h != nil; h = next() {
		returned = false
		err := call(h)
		if returned = true; err != nil {
			return err
		}
	}
	return nil
}
