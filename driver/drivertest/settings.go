package drivertest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
)

// tenantKey is the key of the value that the suite's setting gets.
type tenantKey struct{}

func tenant(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, tenantKey{}, name)
}

// setting is the one of the suite: a name that PostgreSQL and its relatives allow.
const setting = "dbscope_test.tenant"

// runSettings runs the part of the suite that is about dbscope.Settings.
func runSettings[H any](t *testing.T, h Harness[H]) {
	option := dbscope.Settings(func(ctx context.Context) ([]dbscope.Setting, error) {
		name, _ := ctx.Value(tenantKey{}).(string)
		if name == "" {
			return nil, errStop
		}
		return []dbscope.Setting{{Name: setting, Value: name}}, nil
	})
	tests := map[string]func(*suite[H]){
		"they hold in each transaction, first and later ones":       (*suite[H]).settingsHold,
		"they end with the transaction":                             (*suite[H]).settingsEnd,
		"a value is never a part of a statement":                    (*suite[H]).settingsAreBound,
		"an error of their function refuses the statement":          (*suite[H]).settingsRefuse,
		"a transaction that is adopted has them":                    (*suite[H]).settingsAdopted,
		"a statement without a scope does not run without settings": (*suite[H]).settingsUnscoped,
	}
	if h.Setting == nil {
		tests = map[string]func(*suite[H]){"they are refused by name": (*suite[H]).settingsUnknown}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { h.run(t, test, option, dbscope.AllowUnscoped()) })
	}
}

// set compares the setting in the session's transaction.
func (s *suite[H]) set(ctx context.Context, want string) {
	s.Helper()
	s.setOn(ctx, s.session(ctx), want)
}

func (s *suite[H]) setOn(ctx context.Context, h H, want string) {
	s.Helper()
	got, err := s.Setting(ctx, h, setting)
	s.ok(err)
	if got != want {
		s.Errorf("the setting is %q, want %q", got, want)
	}
}

func (s *suite[H]) settingsHold() {
	s.ok(dbscope.Run(tenant(s.Context(), "a"), func(ctx context.Context) error {
		s.set(ctx, "a")
		s.ok(s.db.Commit(ctx))
		s.set(ctx, "a")
		s.ok(s.db.Rollback(ctx))
		s.set(ctx, "a")
		s.ok(s.db.Release(ctx))
		s.insert(ctx, 1)
		s.set(ctx, "a")
		s.setOn(s.Context(), s.session(ctx), "a")
		s.ok(s.db.Commit(ctx))
		s.setOn(s.Context(), s.session(ctx), "a") // as of the unit, whose context this is not
		s.is(s.db.Atomic(ctx, func(ctx context.Context) error { s.set(ctx, "a"); return errStop }), errStop)
		s.set(ctx, "a")
		s.ok(s.db.Commit(ctx))
		s.is(s.db.Atomic(ctx, func(ctx context.Context) error { s.set(ctx, "a"); return errStop }), errStop)
		block := s.nest(ctx) // of a transaction in which nothing was done
		s.set(ctx, "a")
		s.ok(block.Rollback(ctx))
		s.set(ctx, "a")
		s.set(tenant(ctx, "b"), "a") // the transaction has its settings
		s.ok(s.db.Sibling("other").Detached(tenant(ctx, "b"), func(ctx context.Context, h H) error {
			s.setOn(ctx, h, "b")
			return nil
		}))
		s.set(ctx, "a")
		return nil
	}))
	s.stored(1)
}

func (s *suite[H]) settingsEnd() {
	for _, name := range []string{"a", "b"} {
		ctx := tenant(s.Context(), name)
		s.ok(dbscope.Run(ctx, func(ctx context.Context) error { s.set(ctx, name); return nil }))
		s.is(dbscope.Run(ctx, func(ctx context.Context) error { s.set(ctx, name); return errStop }), errStop)
	}
}

func (s *suite[H]) settingsAreBound() {
	for _, name := range []string{
		"'", "''; DROP TABLE t; --", `\'`, "$1", "$$", "?", "%s", "ä\n\t;", strings.Repeat("long ", 2000),
	} {
		s.ok(dbscope.Run(tenant(s.Context(), name), func(ctx context.Context) error { s.set(ctx, name); return nil }))
	}
}

func (s *suite[H]) settingsRefuse() {
	err := s.run(func(ctx context.Context) error {
		err := s.Insert(ctx, s.session(ctx), 1)
		s.is(err, errStop)
		if !strings.HasPrefix(err.Error(), "dbscope: ") {
			s.Errorf("the error does not name the database: %v", err)
		}
		if s.InUse() != 0 {
			s.Error("a connection was taken")
		}
		s.is(s.Insert(tenant(ctx, "a"), s.session(ctx), 2), dbscope.ErrRolledBack)
		return nil
	})
	s.is(err, dbscope.ErrRolledBack)
	s.is(err, errStop)
	s.stored()
	if s.Dialed() != 0 {
		s.Error("a connection was made")
	}
}

func (s *suite[H]) settingsUnscoped() {
	ctx := tenant(s.Context(), "a")
	gate := dbscope.Gate(s.db)
	outside, err := gate.Session(ctx)
	s.ok(err)
	if _, err = outside.Enter(ctx); !errors.Is(err, dbscope.ErrNoScope) {
		s.Fatalf("a statement without a scope was admitted: %v", err)
	}
	if s.InUse() != 0 {
		s.Error("a connection was taken")
	}
	s.ok(s.db.Detached(ctx, func(ctx context.Context, h H) error { s.set(ctx, "a"); return nil }))
}

func (s *suite[H]) settingsAdopted() {
	if s.BeginOther == nil {
		s.Skip("the adapter cannot adopt")
	}
	tx, err := s.BeginOther(s.Context())
	s.ok(err)
	ctx, ended, err := s.db.Adopt(tenant(s.Context(), "a"), tx)
	s.ok(err)
	s.set(ctx, "a")
	s.ok(s.Rollback(s.Context(), tx))
	s.ok(ended(s.Context(), false))
}

func (s *suite[H]) settingsUnknown() {
	err := dbscope.Run(tenant(s.Context(), "a"), func(ctx context.Context) error {
		err := s.Insert(ctx, s.session(ctx), 1)
		if err == nil || !strings.Contains(err.Error(), "Settings") {
			s.Errorf("the option was not refused by name: %v", err)
		}
		if s.InUse() != 0 {
			s.Error("a connection is in use")
		}
		return nil
	})
	s.is(err, dbscope.ErrRolledBack)
	s.stored()
}
