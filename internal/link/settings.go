package link

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/ending"
	"github.com/dbscope/dbscope/internal/errs"
	"github.com/dbscope/dbscope/internal/pools"
)

// askingKey marks the context of a Settings function. A session that it opened on its
// own DB would have to ask it again, without an end.
type askingKey struct{ *pools.Pools }

// errAsking is the answer to that.
var errAsking = errors.New("the function of Settings uses its own DB, whose transactions wait for its answer: " +
	"let it take what it needs from the context, or from a DB without the option")

// askSettings calls the function of dbscope.Settings, before a connection is taken. A
// statement whose context is not of the unit, as those of methods without one are,
// does not say in whose name the unit works.
func (l *Link) askSettings(ctx context.Context) (err error) {
	switch {
	case l.DB.Settings == nil:
		return nil
	case l.Source.Context() == nil && l.Source.Sandbox(ctx) == nil:
		return fmt.Errorf("a statement on its own would run without the DB's Settings: %w", errs.ErrNoScope)
	case l.Source.Context() != nil && !l.Source.Owns(ctx):
		ctx = l.Source.Context()
	}
	key := askingKey{l.DB.Pools}
	if ctx.Value(key) != nil {
		return errAsking
	}
	settings, err := l.DB.Settings(context.WithValue(ctx, key, true))
	if err != nil {
		return fmt.Errorf("the settings of the transaction: %w", err)
	}
	l.settings = slices.Clone(settings) // what is sent is what was answered, whatever its owner does with it
	return nil
}

// Impose makes the settings in a transaction that other code has begun.
func (l *Link) Impose(ctx context.Context) error {
	err := l.askSettings(ctx)
	if err == nil {
		err = l.canSet()
	}
	if err != nil || len(l.settings) == 0 {
		return err
	}
	return l.Conn.(driver.Setter).Set(ctx, l.settings)
}

// errNoSettings is about adapters.
var errNoSettings = errors.New("the adapter has no settings that are local to a transaction")

// canSet refuses to begin a transaction that could not have its settings.
func (l *Link) canSet() error {
	if l.DB.Settings == nil {
		return nil
	}
	err := errNoSettings
	if s, can := l.Conn.(driver.Setter); can {
		err = s.CanSet()
	}
	if err != nil {
		return fmt.Errorf("%w: leave the option Settings out: %w", err, driver.ErrNotSent)
	}
	return nil
}

// set makes the settings in a transaction that has begun, and else undoes it.
func (l *Link) set(ctx context.Context) error {
	if len(l.settings) == 0 {
		return nil
	}
	err := l.Conn.(driver.Setter).Set(ctx, l.settings)
	if err == nil {
		return nil
	}
	bounded := ending.New(ctx, l.Timeout)
	defer bounded.Cancel()
	if undo := l.Conn.Rollback(bounded); undo != nil {
		l.Release(false)
	}
	return fmt.Errorf("its settings: %w", err)
}
