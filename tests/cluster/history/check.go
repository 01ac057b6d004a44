package history

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// shown is how many operations an error shows on each side of the first
// that is wrong.
const shown = 10

// Check returns an error for each key whose history is not linearizable, or
// could not be checked in the time given for it.
func (h *History) Check(timeout time.Duration) error {
	var errs []error
	keys := h.keys()
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		certain := decide(keys[key])
		result, info := porcupine.CheckOperationsVerbose(register, operations(certain), timeout)
		switch result {
		case porcupine.Illegal:
			errs = append(errs, fmt.Errorf("history: key %q: no order explains what was read:\n%s",
				key, excerpt(certain, explained(info))))
		case porcupine.Unknown:
			errs = append(errs, fmt.Errorf("history: key %q: not checked in %v: %d operations", key, timeout, len(certain)))
		}
	}
	return errors.Join(errs...)
}

// register is the model: its state is the value.
var register = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		if o := input.(Op); o.write {
			return true, o.value
		}
		return state == output, state
	},
}

// decide leaves out what has not happened and what nobody would see, and
// otherwise says until when an unknown write has happened. All that is without
// loss, as long as a value tells its write:
//
//   - a write whose value nobody reads may as well have been never;
//   - one that is read has happened before the first such read was answered.
//
// What is not decided stays open to the end.
func decide(ops []Op) []Op {
	writes := map[string]int{}
	seen := map[string]int64{} // the end of the first read to end
	for _, o := range ops {
		switch {
		case o.write:
			writes[o.value]++
		case o.outcome == done:
			if end, ok := seen[o.value]; !ok || o.ended < end {
				seen[o.value] = o.ended
			}
		}
	}
	var left []Op
	for _, o := range ops {
		if o.outcome == failed || o.outcome == unknown && !o.write {
			continue
		}
		if o.outcome == unknown {
			end, read := seen[o.value]
			only := writes[o.value] == 1 && o.value != ""
			if only && !read {
				continue
			}
			o.ended = math.MaxInt64
			if only && end > o.called {
				o.ended = end
			}
		}
		left = append(left, o)
	}
	return left
}

func operations(ops []Op) []porcupine.Operation {
	var all []porcupine.Operation
	for i, o := range ops {
		all = append(all, porcupine.Operation{ClientId: i, Input: o, Output: o.value, Call: o.called, Return: o.ended})
	}
	return all
}

// explained is how many operations the longest order found has.
func explained(info porcupine.LinearizationInfo) map[int64]bool {
	var longest []porcupine.Operation
	for _, partition := range info.PartialLinearizationsOperations() {
		for _, order := range partition {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	in := map[int64]bool{}
	for _, o := range longest {
		in[o.Call] = true
	}
	return in
}

// excerpt shows the operations around the first that is not in the order.
func excerpt(ops []Op, explained map[int64]bool) string {
	first := slices.IndexFunc(ops, func(o Op) bool { return !explained[o.called] })
	var text strings.Builder
	for i := max(0, first-shown); i < min(len(ops), first+shown); i++ {
		mark := "  "
		if i == first {
			mark = "! "
		}
		text.WriteString(mark + ops[i].String() + "\n")
	}
	return text.String()
}
