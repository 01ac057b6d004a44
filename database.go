package dbscope

import (
	"context"
	"fmt"

	"github.com/dbscope/dbscope/internal/pools"
	"github.com/dbscope/dbscope/internal/settle"
)

// database is the part of a DB that does not depend on its handle.
type database struct {
	name          string
	allowUnscoped bool
	pools         *pools.Pools
	beforeSession func(context.Context) error // or nil
	classify      classifier
	settler       settle.Settler // or nil
}

// classifier is an adapter's knowledge of errors.
type classifier interface {
	Transient(err error) bool
	WriteRefused(err error) bool
}

// Pools are for package scopetest.
func (d *database) Pools() *pools.Pools { return d.pools }

// transient reports whether what failed may succeed another time.
func (d *database) transient(err error) bool { return err != nil && d.classify.Transient(err) }

// errorf makes an error that names the database.
func (d *database) errorf(format string, args ...any) error {
	return fmt.Errorf("dbscope: %s: "+format, append([]any{d.name}, args...)...)
}

// beforeKey marks the context of a BeforeSession function, whose own sessions
// do not call it again.
type beforeKey struct{ *pools.Pools }

// beforeOpening calls the function of [BeforeSession].
func (d *database) beforeOpening(ctx context.Context) error {
	if d.beforeSession == nil || ctx.Value(beforeKey{d.pools}) != nil {
		return nil
	}
	if err := d.beforeSession(context.WithValue(ctx, beforeKey{d.pools}, true)); err != nil {
		return fmt.Errorf("before the session: %w", err)
	}
	return nil
}
