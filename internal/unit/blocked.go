package unit

import (
	"reflect"
	"runtime"
	"strings"
)

// The functions that are on the stack of who waits for a connection in a unit: the
// one that takes it, dbscope.Run's for each unit that Run has begun, and some of a
// middleware's for the one that it has begun.
var (
	AcquireFrame    string // set by package link
	RunFrame        string // set by package dbscope
	middlewareFrame = strings.TrimSuffix(reflect.TypeFor[Unit]().PkgPath(), "internal/unit") + "middleware/"
)

// NameOf returns the name that a function has on the stack.
func NameOf(fn any) string { return runtime.FuncForPC(reflect.ValueOf(fn).Pointer()).Name() }

// Blocked returns the unit of who calls it, and those around it, the innermost first,
// as far as their functions cannot return before the caller does, since the caller
// runs in them. A unit that a goroutine begins does not keep the unit around it from
// its end, unless that waits for the goroutine, which nobody can see.
func (u *Unit) Blocked() (all []*Unit) {
	pcs := make([]uintptr, 256)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	waits := false
	for more := true; more && u != nil; {
		var f runtime.Frame
		f, more = frames.Next()
		switch {
		case f.Function == AcquireFrame:
			waits = true
		case waits && (u.ByRun && f.Function == RunFrame || !u.ByRun && strings.HasPrefix(f.Function, middlewareFrame)):
			all = append(all, u)
			u = u.Parent
		}
	}
	return all
}
