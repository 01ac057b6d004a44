package drivertest

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/dbscope/dbscope"
)

// adoptTests are of adapters that can adopt: see [Database.BeginOther].
func adoptTests[H any]() map[string]func(*suite[H]) {
	return map[string]func(*suite[H]){
		"what is called in an adopted transaction is committed, or undone, by its owner": (*suite[H]).adopted,
		"an adopted transaction of which only a rollback is possible stores nothing":     (*suite[H]).adoptedDoomed,
		"a block in an adopted transaction is a savepoint of it":                         (*suite[H]).adoptedBlocks,
		"rows that are left open at the owner's end harm nobody":                         (*suite[H]).adoptedRows,
		"what only the owner may do is refused":                                          (*suite[H]).adoptedRefuses,
		"a statement after the owner's end is not stored by itself":                      (*suite[H]).adoptedLate,
		"until the owner reports the end no hook runs":                                   (*suite[H]).adoptedForgotten,
		"what nobody can adopt is refused by name":                                       (*suite[H]).adoptsNot,
	}
}

// adoption is a transaction of code that knows nothing of dbscope.
type adoption[H any] struct {
	s     *suite[H]
	tx    H
	ctx   context.Context
	ended func(context.Context, bool) error
	ran   []string // hooks
}

// adopt begins a transaction, stores a row in it as its owner does, and gives it to
// Adopt.
func (s *suite[H]) adopt(row int) *adoption[H] {
	s.Helper()
	tx, err := s.BeginOther(s.Context())
	s.ok(err)
	s.ok(s.Insert(s.Context(), tx, row))
	a := &adoption[H]{s: s, tx: tx}
	a.ctx, a.ended, err = s.db.Adopt(s.Context(), a.tx)
	s.ok(err)
	ran := func(name string) func(context.Context) error {
		return func(context.Context) error { a.ran = append(a.ran, name); return nil }
	}
	s.ok(dbscope.AfterCommit(a.ctx, ran("scope committed")))
	s.ok(dbscope.AfterRollback(a.ctx, ran("scope rolled back")))
	s.ok(s.db.AfterCommit(a.ctx, ran("db committed")))
	s.ok(s.db.AfterRollback(a.ctx, ran("db rolled back")))
	return a
}

// commit is what an owner does at the end.
func (a *adoption[H]) commit() (own, ended error) {
	ctx := a.s.Context()
	own = a.s.Commit(ctx, a.tx)
	return own, a.ended(ctx, own == nil)
}

func (a *adoption[H]) hooks(want ...string) {
	a.s.Helper()
	if !slices.Equal(a.ran, want) {
		a.s.Fatalf("the hooks %q ran, want %q", a.ran, want)
	}
}

func (s *suite[H]) adopted() {
	a := s.adopt(100)
	s.insert(a.ctx, 1)
	s.ok(dbscope.Join(a.ctx, func(ctx context.Context) error { s.insert(ctx, 2); return nil }))
	s.ok(s.Insert(s.Context(), a.tx, 3))
	s.insert(a.ctx, 4)
	s.stored()
	own, ended := a.commit()
	s.ok(own)
	s.ok(ended)
	a.hooks("scope committed", "db committed")
	s.stored(1, 2, 3, 4, 100)
	_, err := s.db.Session(a.ctx)
	s.is(err, dbscope.ErrScopeEnded)
	if err := a.ended(s.Context(), true); err == nil {
		s.Error("the end could be reported twice")
	}
	a.hooks("scope committed", "db committed")

	b := s.adopt(200)
	s.insert(b.ctx, 5)
	s.ok(s.Rollback(s.Context(), b.tx))
	s.ok(b.ended(s.Context(), false))
	b.hooks("scope rolled back", "db rolled back")
	s.stored(1, 2, 3, 4, 100)
}

func (s *suite[H]) adoptedDoomed() {
	ways := map[string]struct {
		doom  func(a *adoption[H])
		cause error
	}{
		"MarkRollback": {func(a *adoption[H]) { s.ok(dbscope.MarkRollback(a.ctx)) }, dbscope.ErrRollbackOnly},
		"MarkRollback in a block": {func(a *adoption[H]) {
			_ = s.db.Atomic(a.ctx, func(ctx context.Context) error {
				s.insert(ctx, 2)
				return dbscope.MarkRollback(ctx)
			})
		}, dbscope.ErrRollbackOnly},
		"MarkRollback beside rows": {func(a *adoption[H]) {
			_, _, err := s.Query(a.ctx, s.session(a.ctx))
			s.ok(err)
			s.ok(dbscope.MarkRollback(a.ctx))
		}, dbscope.ErrRollbackOnly},
		"Join": {func(a *adoption[H]) {
			s.is(dbscope.Join(a.ctx, func(ctx context.Context) error { s.insert(ctx, 2); return errStop }), errStop)
		}, errStop},
		"the scope's end": {func(a *adoption[H]) {
			scope, _ := dbscope.FromContext(a.ctx)
			s.ok(scope.End(a.ctx))
		}, dbscope.ErrScopeEnded},
	}
	if s.RefusalAborts {
		ways["a refused statement"] = struct {
			doom  func(a *adoption[H])
			cause error
		}{func(a *adoption[H]) {
			if err := s.Refused(a.ctx, s.session(a.ctx)); err == nil {
				s.Error("nothing was refused")
			}
		}, dbscope.ErrRolledBack}
	}
	for name, way := range ways {
		for _, commits := range []bool{true, false} {
			a := s.adopt(100)
			s.insert(a.ctx, 1)
			way.doom(a)
			if h, err := s.db.Session(a.ctx); err == nil {
				s.is(s.Insert(a.ctx, h, 3), dbscope.ErrRolledBack)
			}
			if err := s.Insert(s.Context(), a.tx, 4); err == nil {
				s.Errorf("%s: the owner can go on", name)
			}
			if commits {
				if own := s.Commit(s.Context(), a.tx); own == nil {
					s.Errorf("%s: the owner's commit is a success", name)
				}
				ended := a.ended(s.Context(), true) // as an owner says that does not look
				s.is(ended, dbscope.ErrRolledBack)
				s.is(ended, way.cause)
			} else {
				_ = s.Rollback(s.Context(), a.tx) // it may be over already
				s.ok(a.ended(s.Context(), false))
			}
			a.hooks("scope rolled back", "db rolled back")
			s.stored()
		}
	}
}

func (s *suite[H]) adoptedBlocks() {
	a := s.adopt(100)
	s.ok(s.db.Atomic(a.ctx, func(ctx context.Context) error { s.insert(ctx, 1); return nil }))
	s.is(s.db.Atomic(a.ctx, func(ctx context.Context) error {
		s.ok(s.Insert(s.Context(), a.tx, 2)) // the owner's, and in the block all the same
		s.insert(ctx, 3)
		return errStop
	}), errStop)
	s.is(s.db.Atomic(a.ctx, func(ctx context.Context) error {
		s.insert(ctx, 4)
		if err := s.Refused(ctx, s.session(ctx)); err == nil {
			s.Error("nothing was refused")
		}
		return errStop
	}), errStop)
	s.is(s.db.Atomic(a.ctx, func(ctx context.Context) error {
		return dbscope.Join(ctx, func(ctx context.Context) error { s.insert(ctx, 5); return errStop })
	}), errStop)
	s.insert(a.ctx, 6)
	own, ended := a.commit()
	s.ok(own)
	s.ok(ended)
	a.hooks("scope committed", "db committed")
	s.stored(1, 6, 100)

	// One that is open at the owner's commit makes it uncertain.
	b := s.adopt(200)
	block := s.nest(b.ctx)
	s.insert(b.ctx, 7)
	s.ok(s.Commit(s.Context(), b.tx))
	s.is(b.ended(s.Context(), true), dbscope.ErrCommitUnknown)
	_ = block.Rollback(b.ctx)
	b.hooks()
	s.stored(1, 6, 7, 100, 200)
}

func (s *suite[H]) adoptedRows() {
	a := s.adopt(100)
	s.insert(a.ctx, 1)
	next, closeRows, err := s.Query(a.ctx, s.session(a.ctx))
	s.ok(err)
	own, ended := a.commit() // some libraries refuse it beside rows
	s.ok(ended)
	if err := next(); err == nil {
		s.Error("rows were read after their transaction")
	}
	_ = closeRows()
	if own == nil {
		a.hooks("scope committed", "db committed")
		s.stored(1, 100)
	} else {
		_ = s.Rollback(s.Context(), a.tx)
		a.hooks("scope rolled back", "db rolled back")
		s.stored()
	}
}

func (s *suite[H]) adoptedRefuses() {
	a := s.adopt(100)
	s.insert(a.ctx, 1)
	scope, _ := dbscope.FromContext(a.ctx)
	nothing := func(context.Context) error { s.Error("it ran"); return nil }
	for name, do := range map[string]func(context.Context) error{
		"BeforeCommit":         func(ctx context.Context) error { return dbscope.BeforeCommit(ctx, nothing) },
		"DB.BeforeCommit":      func(ctx context.Context) error { return s.db.BeforeCommit(ctx, nothing) },
		"DB.Commit":            s.db.Commit,
		"DB.Rollback":          s.db.Rollback,
		"DB.Release":           s.db.Release,
		"Scope.Commit":         scope.Commit,
		"Scope.Rollback":       scope.Rollback,
		"CommitOpen":           func(ctx context.Context) error { return s.db.Atomic(ctx, nothing, dbscope.CommitOpen) },
		"the handle's commit":  func(ctx context.Context) error { return s.Commit(ctx, s.session(ctx)) },
		"a block with options": func(ctx context.Context) error { return s.db.Atomic(ctx, nothing, dbscope.ReadOnly()) },
	} {
		if err := do(a.ctx); !errors.Is(err, dbscope.ErrOpenTransaction) {
			s.Errorf("%s: %v", name, err)
		}
	}
	own, ended := a.commit()
	s.ok(own)
	s.ok(ended)
	s.stored(1, 100)
}

func (s *suite[H]) adoptedLate() {
	late := func(end func(context.Context, H) error) *adoption[H] {
		a := s.adopt(100)
		s.insert(a.ctx, 1)
		s.ok(end(s.Context(), a.tx))
		if err := s.Insert(a.ctx, s.session(a.ctx), 2); err == nil {
			s.Error("a statement ran after the end of its transaction")
		}
		return a
	}
	a := late(s.Rollback)
	s.ok(a.ended(s.Context(), false))
	a.hooks("scope rolled back", "db rolled back")
	s.stored()
	a = late(s.Commit)
	s.is(a.ended(s.Context(), true), dbscope.ErrCommitUnknown) // the scope saw an end, and not which
	a.hooks()
	s.stored(1, 100)
}

func (s *suite[H]) adoptedForgotten() {
	a := s.adopt(100)
	s.insert(a.ctx, 1)
	s.ok(s.Commit(s.Context(), a.tx))
	a.hooks()
	s.stored(1, 100)
	s.ok(s.run(func(ctx context.Context) error { s.insert(ctx, 2); return nil }))
	s.stored(1, 2, 100)
	s.ok(a.ended(s.Context(), true)) // late, which lets go of the handle
}

func (s *suite[H]) adoptsNot() {
	var none H
	over, err := s.BeginOther(s.Context())
	s.ok(err)
	s.ok(s.Rollback(s.Context(), over))
	refused := func(what string, tx H, says string) {
		_, _, err := s.db.Adopt(s.Context(), tx)
		if err == nil || !strings.Contains(err.Error(), says) {
			s.Errorf("%s: %v", what, err)
		}
	}
	refused("nil", none, "nil")
	refused("one that is over", over, "over")
	s.ok(s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		refused("a scope's own handle", s.session(ctx), "context")
		return nil
	}))
	s.stored(1)
}
