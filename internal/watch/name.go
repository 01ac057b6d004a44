package watch

import (
	"context"

	"github.com/dbscope/dbscope/internal/unit"
)

// Namer knows the name of a unit, perhaps not from the beginning; see package middleware.
type Namer interface {
	UnitName() (name string, final bool)
}

// NamerKey is the key under which a context has the Namer of the units that are begun in
// it.
type NamerKey struct{}

// Name is a Namer that knows it from the beginning.
type Name string

// UnitName implements [Namer].
func (n Name) UnitName() (string, bool) { return string(n), true }

// namerOf returns the Namer of a context, or nil.
func namerOf(ctx context.Context) Namer {
	n, _ := unit.Value(ctx, NamerKey{}).(Namer)
	return n
}
