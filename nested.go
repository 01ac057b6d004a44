package dbscope

import (
	"context"
	"database/sql"

	"github.com/dbscope/dbscope/driver"
)

// ID implements [driver.Session].
func (b *block) ID() uint64 { return b.s.ID() }

// Enter implements [driver.Session].
func (b *block) Enter(ctx context.Context) (driver.Conn, error) { return b.s.enter(ctx, b) }

// Exit implements [driver.Session].
func (b *block) Exit(ctx context.Context, err error) error { return b.s.Exit(ctx, err) }

// Hold implements [driver.Session].
func (b *block) Hold(rows driver.Rows) { b.s.Hold(rows) }

// Resume implements [driver.Session].
func (b *block) Resume(rows driver.Rows) error { return b.s.Resume(rows) }

// Begin implements [driver.Session].
func (b *block) Begin(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return b.s.nest(ctx, b, opts, savepoint)
}

// Join implements [driver.Session].
func (b *block) Join(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return b.s.nest(ctx, b, opts, joining)
}

// Commit implements [driver.Session]: the block's work now belongs to the
// transaction around it.
func (b *block) Commit(ctx context.Context) error { return b.end(ctx, true) }

// Rollback implements [driver.Session]: the block's work is undone, that of
// blocks left open in it too.
func (b *block) Rollback(ctx context.Context) error { return b.end(ctx, false) }

// Begin implements [driver.Session].
func (s *session) Begin(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return s.nest(ctx, nil, opts, savepoint)
}

// Join implements [driver.Session].
func (s *session) Join(ctx context.Context, opts sql.TxOptions) (driver.Session, error) {
	return s.nest(ctx, nil, opts, joining)
}

// Commit implements [driver.Session].
func (s *session) Commit(ctx context.Context) error {
	s.dropHandle()
	return s.place.endEarly(ctx, s, true, nil)
}

// Rollback implements [driver.Session].
func (s *session) Rollback(ctx context.Context) error {
	s.dropHandle()
	return s.place.endEarly(ctx, s, false, nil)
}

// dropHandle forgets the handle that ends the transaction, which may take no
// statement any more: of a hook, or after the end was refused.
func (s *session) dropHandle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handle.Store(nil)
	s.handleOver = nil
}

// nest begins a block in the session, or in one of its blocks.
func (s *session) nest(ctx context.Context, in *block, opts sql.TxOptions, kind blockKind) (driver.Session, error) {
	if err := s.cannotHave(driver.TxOptions{TxOptions: opts}); err != nil {
		return nil, err
	}
	if err := s.take(ctx, in); err != nil {
		return nil, err
	}
	b := &block{s: s, kind: kind, ctx: ctx}
	if err := s.push(ctx, b); err != nil {
		return nil, err
	}
	return b, nil
}

// cannotHave refuses options that the open transaction does not have.
func (s *session) cannotHave(opts driver.TxOptions) error {
	has := s.TX
	if (opts.Isolation == sql.LevelDefault || opts.Isolation == has.Isolation) &&
		(has.ReadOnly || !opts.ReadOnly) && (has.Deferrable || !opts.Deferrable) {
		return nil
	}
	return s.DB.Errorf("a nested transaction has the options of the one around it and cannot be %s: "+
		"pass them to the scope: %w", describe(opts), ErrOpenTransaction)
}

func describe(opts driver.TxOptions) string {
	switch {
	case opts.ReadOnly:
		return "read-only"
	case opts.Deferrable:
		return "deferrable"
	}
	return opts.Isolation.String()
}
