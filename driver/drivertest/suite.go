package drivertest

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/middleware"
)

// Harness is what the suite has to know of an adapter.
type Harness[H any] struct {
	// Open returns a DB with the options over a table without rows, on a pool of
	// its own that the harness closes after the test.
	Open func(t *testing.T, opts ...dbscope.DBOption) Database[H]
	// Insert stores a row.
	Insert func(ctx context.Context, h H, id int) error
	// Refused is a statement that the server refuses.
	Refused func(ctx context.Context, h H) error
	// Query returns rows that are open, over at least one row, with the
	// functions that read the next and close them.
	Query func(ctx context.Context, h H) (next, close func() error, err error)
	// Commit and Rollback are the handle's own.
	Commit, Rollback func(ctx context.Context, h H) error
	// Setting returns the value of a setting in the transaction. It is nil where the
	// database has none that are local to a transaction.
	Setting func(ctx context.Context, h H, name string) (string, error)
	// RefusalAborts tells that a refused statement aborts the transaction.
	RefusalAborts bool
	// ReadOnly tells that the database enforces read-only transactions.
	ReadOnly bool
}

// Database is one that a harness opened.
type Database[H any] struct {
	DB *dbscope.DB[H]
	// Stored returns what is committed, sorted, as another client sees it.
	Stored func() []int
	// InUse returns how many connections are out of the pool.
	InUse func() int
	// Dialed returns how many connections were made so far.
	Dialed func() int
	// BeginOther begins a transaction on the DB's pool, as code does that knows
	// nothing of dbscope; nil where the adapter is no [driver.Adopter]. The handle is
	// used as those of sessions are.
	BeginOther func(ctx context.Context) (H, error)
}

// suite is one run against one DB.
type suite[H any] struct {
	*testing.T
	Harness[H]
	Database[H]
	db *dbscope.DB[H]
}

// Run runs the conformance suite: what every adapter has to do for the core's
// rules to hold on it.
func Run[H any](t *testing.T, h Harness[H]) {
	for name, test := range map[string]func(*suite[H]){
		"R1 all callers get the same handle, also when many ask first at once":            (*suite[H]).sameHandle,
		"R2 nothing is opened before the first statement":                                 (*suite[H]).lazy,
		"R3 a unit that returns nil is committed, and only then":                          (*suite[H]).onlySuccessCommits,
		"R5 an early commit keeps what was done and the next statement begins anew":       (*suite[H]).earlyCommit,
		"R5 an early rollback undoes what was done and the next statement begins anew":    (*suite[H]).earlyRollback,
		"R5 an early release undoes what was done and gives the connection back":          (*suite[H]).earlyRelease,
		"R6 the handle's own commit is the session's":                                     (*suite[H]).handleCommit,
		"R6 the handle's own rollback is the session's":                                   (*suite[H]).handleRollback,
		"R8 a detached transaction is independent of the scope":                           (*suite[H]).detached,
		"R9 units side by side have sessions of their own":                                (*suite[H]).sideBySide,
		"R10 a sibling is a second session of the same database":                          (*suite[H]).sibling,
		"R15 without a scope, and after its end, uses are refused":                        (*suite[H]).noScope,
		"defect 3: a handle taken inside another database's unit runs on its own":         (*suite[H]).twoDatabases,
		"defect 12: a new unit begins in the context of one that is over":                 (*suite[H]).newAfterOver,
		"a second statement beside open rows is refused and harms nothing":                (*suite[H]).busy,
		"rows left open are closed by the commit":                                         (*suite[H]).rowsAtCommit,
		"rows read after the commit are an error":                                         (*suite[H]).rowsAfterCommit,
		"a refused statement decides the commit as the database does":                     (*suite[H]).refused,
		"a refused statement in an undone block does not spoil the commit":                (*suite[H]).refusedInBlock,
		"a nested block is undone alone":                                                  (*suite[H]).blockRollback,
		"a nested block is undone although its context is cancelled":                      (*suite[H]).blockCancelled,
		"a statement after a nested block's context has ended is not undone with it":      (*suite[H]).blockExpired,
		"a nested block that is left open fails the commit":                               (*suite[H]).blockLeftOpen,
		"defect 7: a joined block that is undone fails the commit":                        (*suite[H]).joinRollback,
		"a nested block cannot have options that its transaction has not":                 (*suite[H]).blockOptions,
		"blocks that overlap do not undo each other's work in silence":                    (*suite[H]).blockOverlap,
		"defect 5: a request cancelled between statements keeps its connection":           (*suite[H]).cancelledBetween,
		"defect 9: cancelled before a statement, the unit tells the cause":                (*suite[H]).cancelledBefore,
		"a marked scope answers ErrRollbackOnly and stores nothing":                       (*suite[H]).marked,
		"a read-only scope refuses to write":                                              (*suite[H]).readOnly,
		"a goroutine that outlives its scope cannot touch the database through it":        (*suite[H]).outlives,
		"defect 2: Goexit and panics roll back, and give the connection back":             (*suite[H]).goexit,
		"two goroutines on one session get ErrSessionBusy or are served, nothing between": (*suite[H]).hammer,
	} {
		t.Run(name, func(t *testing.T) { h.run(t, test) })
	}
	for name, test := range adoptTests[H]() {
		t.Run(name, func(t *testing.T) {
			h.run(t, func(s *suite[H]) {
				if s.BeginOther == nil {
					t.Skip("the adapter cannot adopt")
				}
				test(s)
			})
		})
	}
	t.Run("settings", func(t *testing.T) { runSettings(t, h) })
	t.Run("observers", func(t *testing.T) { runObserved(t, h) })
}

// run runs one test of the suite, against a DB with the options.
func (h Harness[H]) run(t *testing.T, test func(*suite[H]), opts ...dbscope.DBOption) {
	d := h.Open(t, opts...)
	s := &suite[H]{T: t, Harness: h, Database: d, db: d.DB}
	test(s)
	if n := d.InUse(); n != 0 && !t.Failed() {
		t.Errorf("%d connections are still out of the pool", n)
	}
}

var errStop = errors.New("stop")

func (s *suite[H]) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("unexpected error: %v", err)
	}
}

func (s *suite[H]) is(err, target error) {
	s.Helper()
	if !errors.Is(err, target) {
		s.Fatalf("error is %v, want one that is %q", err, target)
	}
}

func (s *suite[H]) stored(want ...int) {
	s.Helper()
	if got := s.Stored(); !slices.Equal(got, want) {
		s.Fatalf("stored %v, want %v", got, want)
	}
}

func (s *suite[H]) run(fn func(ctx context.Context) error, opts ...dbscope.Option) error {
	return dbscope.Run(s.Context(), fn, opts...)
}

func (s *suite[H]) session(ctx context.Context) H {
	s.Helper()
	h, err := s.db.Session(ctx)
	s.ok(err)
	return h
}

func (s *suite[H]) insert(ctx context.Context, ids ...int) {
	s.Helper()
	for _, id := range ids {
		s.ok(s.Insert(ctx, s.session(ctx), id))
	}
}

func (s *suite[H]) nest(ctx context.Context) driver.Session {
	s.Helper()
	outer, err := dbscope.Gate(s.db).Session(ctx)
	s.ok(err)
	block, err := outer.Begin(ctx, sql.TxOptions{})
	s.ok(err)
	return block
}

func (s *suite[H]) sameHandle() {
	s.ok(s.run(func(ctx context.Context) error {
		handles := make([]any, 50)
		var wg sync.WaitGroup
		for i := range handles {
			wg.Go(func() {
				h, err := s.db.Session(ctx)
				if err != nil {
					s.Error(err)
				}
				handles[i] = h
			})
		}
		wg.Wait()
		for _, h := range handles {
			if h != handles[0] {
				s.Fatal("two callers got different handles")
			}
		}
		s.insert(ctx, 1)
		return nil
	}))
	s.stored(1)
}

func (s *suite[H]) lazy() {
	before := s.Dialed()
	s.ok(s.run(func(context.Context) error { return nil }))
	s.ok(s.run(func(ctx context.Context) error {
		s.session(ctx)
		if s.InUse() != 0 {
			s.Error("Session took a connection")
		}
		return nil
	}))
	if s.Dialed() != before {
		s.Error("a unit without a statement made a connection")
	}
}

func (s *suite[H]) onlySuccessCommits() {
	s.ok(s.run(func(ctx context.Context) error { s.insert(ctx, 1, 2); return nil }))
	s.stored(1, 2)
	err := s.run(func(ctx context.Context) error { s.insert(ctx, 3); return errStop })
	if err != errStop { //nolint:errorlint // it is passed on as it is
		s.Errorf("the error was changed to %v", err)
	}
	s.stored(1, 2)
}

func (s *suite[H]) goexit() {
	func() {
		defer func() {
			if recover() != "oops" {
				s.Error("the panic was changed")
			}
		}()
		_ = s.run(func(ctx context.Context) error { s.insert(ctx, 1); panic("oops") })
	}()
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.run(func(ctx context.Context) error { s.insert(ctx, 2); runtime.Goexit(); return nil })
	})
	wg.Wait()
	s.stored()
}

func (s *suite[H]) earlyCommit() {
	err := s.run(func(ctx context.Context) error {
		s.ok(s.db.Commit(ctx)) // nothing is open
		s.insert(ctx, 1)
		s.ok(s.db.Commit(ctx))
		s.stored(1)
		if s.InUse() != 1 {
			s.Errorf("%d connections in use, want the scope's one", s.InUse())
		}
		s.insert(ctx, 2)
		return errStop
	})
	s.is(err, errStop)
	s.stored(1)
}

func (s *suite[H]) earlyRollback() {
	s.ok(s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		s.ok(s.db.Rollback(ctx))
		s.insert(ctx, 2)
		return nil
	}))
	s.stored(2)
}

func (s *suite[H]) earlyRelease() {
	s.ok(s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		s.ok(s.db.Release(ctx))
		if s.InUse() != 0 {
			s.Error("the connection is still out")
		}
		s.insert(ctx, 2)
		s.ok(s.db.Commit(ctx))
		s.ok(s.db.Release(ctx))
		if s.InUse() != 0 {
			s.Error("the spare connection is still out")
		}
		return nil
	}))
	s.stored(2)
}

func (s *suite[H]) handleCommit() {
	err := s.run(func(ctx context.Context) error {
		h := s.session(ctx)
		s.ok(s.Insert(ctx, h, 1))
		s.ok(s.Commit(ctx, h))
		s.stored(1)
		if err := s.Insert(ctx, h, 2); err == nil {
			s.Error("a handle worked after its commit")
		}
		s.insert(ctx, 3)
		return errStop
	})
	s.is(err, errStop)
	s.stored(1)
}

func (s *suite[H]) handleRollback() {
	s.ok(s.run(func(ctx context.Context) error {
		h := s.session(ctx)
		s.ok(s.Insert(ctx, h, 1))
		s.ok(s.Rollback(ctx, h))
		if err := s.Commit(ctx, h); err == nil {
			s.Error("a handle was committed after its rollback")
		}
		s.insert(ctx, 2)
		return nil
	}))
	s.stored(2)
}

func (s *suite[H]) detached() {
	err := s.run(func(ctx context.Context) error {
		s.session(ctx)
		s.ok(s.db.Detached(ctx, func(ctx context.Context, h H) error {
			s.ok(s.Insert(ctx, h, 1))
			s.insert(ctx, 2) // what it calls joins it
			return nil
		}))
		s.stored(1, 2)
		s.is(s.db.Detached(ctx, func(ctx context.Context, h H) error {
			s.ok(s.Insert(ctx, h, 3))
			return errStop
		}), errStop)
		return errStop
	})
	s.is(err, errStop)
	s.stored(1, 2)
}

func (s *suite[H]) sideBySide() {
	const n = 8
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			err := s.run(func(ctx context.Context) error {
				h, err := s.db.Session(ctx)
				if err != nil {
					return err
				}
				if err := s.Insert(ctx, h, i); err != nil {
					return err
				}
				if i%2 == 1 {
					return errStop
				}
				return nil
			})
			if i%2 == 0 && err != nil || i%2 == 1 && !errors.Is(err, errStop) {
				s.Errorf("unit %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	s.stored(0, 2, 4, 6)
}

func (s *suite[H]) sibling() {
	other := s.db.Sibling("other")
	if other == s.db || s.db.Sibling("other") != other || other.Sibling("other") != other {
		s.Fatal("a sibling is one DB for each name")
	}
	s.ok(s.run(func(ctx context.Context) error {
		h, err := other.Session(ctx)
		s.ok(err)
		s.ok(s.Insert(ctx, h, 1))
		s.ok(other.Commit(ctx))
		s.insert(ctx, 2)
		return s.db.Rollback(ctx)
	}))
	s.stored(1)
}

func (s *suite[H]) twoDatabases() {
	other := s.Open(s.T)
	err := s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		h, err := other.DB.Session(ctx)
		s.ok(err)
		s.ok(s.Insert(ctx, h, 2))
		s.ok(other.DB.Commit(ctx))
		return errStop
	})
	s.is(err, errStop)
	s.stored()
	if got := other.Stored(); !slices.Equal(got, []int{2}) {
		s.Fatalf("the other database stored %v", got)
	}
}

func (s *suite[H]) noScope() {
	ctx := s.Context()
	_, err := s.db.Session(ctx)
	s.is(err, dbscope.ErrNoScope)
	s.is(s.db.Commit(ctx), dbscope.ErrNoScope)
	ctx, scope := dbscope.Begin(ctx)
	h := s.session(ctx)
	_, err = s.db.Session(dbscope.WithoutScope(ctx))
	s.is(err, dbscope.ErrNoScope)
	s.ok(scope.End(ctx))
	_, err = s.db.Session(ctx)
	s.is(err, dbscope.ErrScopeEnded)
	for _, err := range []error{s.db.Commit(ctx), s.db.Rollback(ctx), s.db.Release(ctx), dbscope.MarkRollback(ctx)} {
		s.is(err, dbscope.ErrScopeEnded)
	}
	if err := s.Insert(ctx, h, 1); err == nil {
		s.Error("a handle worked after its scope")
	}
	s.stored()
}

func (s *suite[H]) newAfterOver() {
	old, scope := dbscope.Begin(s.Context())
	s.ok(scope.End(old))
	s.ok(dbscope.Run(old, func(ctx context.Context) error { s.insert(ctx, 1); return nil }))
	s.stored(1)
}

func (s *suite[H]) busy() {
	s.ok(s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		h := s.session(ctx)
		next, closeRows, err := s.Query(ctx, h)
		s.ok(err)
		s.is(s.Insert(ctx, h, 2), dbscope.ErrSessionBusy)
		scope, _ := middleware.ScopeOf(ctx)
		if !scope.Busy() {
			s.Error("the scope does not know that it is busy")
		}
		s.ok(next())
		s.ok(closeRows())
		if scope.Busy() {
			s.Error("the scope is busy without a statement")
		}
		return s.Insert(ctx, h, 3)
	}))
	s.stored(1, 3)
}

func (s *suite[H]) rowsAtCommit() {
	s.ok(s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		_, _, err := s.Query(ctx, s.session(ctx))
		return err
	}))
	s.stored(1)
}

func (s *suite[H]) rowsAfterCommit() {
	s.ok(s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		next, closeRows, err := s.Query(ctx, s.session(ctx))
		s.ok(err)
		s.ok(s.db.Commit(ctx))
		s.insert(ctx, 2)
		if err := next(); err == nil {
			s.Error("rows were read after their transaction")
		}
		_ = closeRows()
		s.insert(ctx, 3)
		return nil
	}))
	s.stored(1, 2, 3)
}

func (s *suite[H]) refused() {
	err := s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		h := s.session(ctx)
		if err := s.Refused(ctx, h); err == nil {
			s.Error("nothing was refused")
		}
		if err := s.Insert(ctx, h, 2); s.RefusalAborts {
			s.is(err, dbscope.ErrRolledBack)
		} else {
			s.ok(err)
		}
		return nil
	})
	if !s.RefusalAborts {
		s.ok(err)
		s.stored(1, 2)
		return
	}
	s.is(err, dbscope.ErrRolledBack)
	var commit *dbscope.CommitError
	if !errors.As(err, &commit) || len(commit.Outcomes) != 1 || commit.Outcomes[0].State != driver.RolledBack {
		s.Errorf("the outcome is %+v", commit)
	}
	s.stored()
}

func (s *suite[H]) refusedInBlock() {
	for _, begun := range []bool{true, false} {
		s.ok(s.run(func(ctx context.Context) error {
			if begun {
				s.insert(ctx, 1)
			}
			block := s.nest(ctx)
			if err := s.Refused(ctx, s.session(ctx)); err == nil {
				s.Error("nothing was refused")
			}
			if _, err := block.Begin(ctx, sql.TxOptions{}); s.RefusalAborts {
				s.is(err, dbscope.ErrRolledBack)
			} else {
				s.ok(err)
			}
			s.ok(block.Rollback(ctx))
			s.insert(ctx, map[bool]int{true: 2, false: 3}[begun])
			return nil
		}))
	}
	s.stored(1, 2, 3)
}

func (s *suite[H]) blockRollback() {
	s.ok(s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		outer := s.nest(ctx)
		s.insert(ctx, 2)
		inner := s.nest(ctx)
		s.insert(ctx, 3)
		s.is(s.db.Commit(ctx), dbscope.ErrOpenTransaction)
		s.is(s.db.Rollback(ctx), dbscope.ErrOpenTransaction)
		s.ok(inner.Rollback(ctx))
		s.insert(ctx, 4)
		s.ok(outer.Commit(ctx))
		s.is(outer.Rollback(ctx), sql.ErrTxDone)
		kept := s.nest(ctx)
		s.nest(ctx) // left open inside one that is undone
		s.insert(ctx, 5)
		return kept.Rollback(ctx)
	}))
	s.stored(1, 2, 4)
}

func (s *suite[H]) blockCancelled() {
	s.ok(s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		inner, cancel := context.WithCancel(ctx)
		block := s.nest(inner)
		s.insert(inner, 2)
		cancel()
		s.ok(ignoreCancelled(block.Rollback(inner)))
		return nil
	}))
	s.stored(1)
}

// An expired block's Rollback may tell that it was undone already.
func ignoreCancelled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (s *suite[H]) blockExpired() {
	s.ok(s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		inner, cancel := context.WithCancel(ctx)
		block := s.nest(inner)
		s.insert(inner, 2)
		cancel()
		s.insert(ctx, 3)
		if err := block.Commit(ctx); err == nil {
			s.Error("a block that was undone has been committed")
		}
		inner, cancel = context.WithCancel(ctx)
		s.nest(inner)
		s.insert(ctx, 4)
		cancel()
		return nil
	}))
	s.stored(1, 3)
}

func (s *suite[H]) blockLeftOpen() {
	err := s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		s.nest(ctx)
		s.insert(ctx, 2)
		return nil
	})
	s.is(err, dbscope.ErrOpenTransaction)
	s.is(err, dbscope.ErrRolledBack)
	s.stored()
}

func (s *suite[H]) joinRollback() {
	err := s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		outer, err := dbscope.Gate(s.db).Session(ctx)
		s.ok(err)
		kept, err := outer.Join(ctx, sql.TxOptions{})
		s.ok(err)
		s.ok(kept.Commit(ctx))
		undone, err := outer.Join(ctx, sql.TxOptions{})
		s.ok(err)
		s.insert(ctx, 2)
		s.ok(undone.Rollback(ctx))
		s.is(s.Insert(ctx, s.session(ctx), 3), dbscope.ErrRolledBack)
		return nil
	})
	s.is(err, dbscope.ErrRolledBack)
	s.stored()
}

func (s *suite[H]) blockOptions() {
	s.ok(s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		outer, err := dbscope.Gate(s.db).Session(ctx)
		s.ok(err)
		_, err = outer.Begin(ctx, sql.TxOptions{Isolation: sql.LevelSerializable})
		s.is(err, dbscope.ErrOpenTransaction)
		_, err = outer.Join(ctx, sql.TxOptions{ReadOnly: true})
		s.is(err, dbscope.ErrOpenTransaction)
		return nil
	}))
	s.stored(1)
}

func (s *suite[H]) blockOverlap() {
	err := s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		first, second := s.nest(ctx), s.nest(ctx)
		if _, err := first.Enter(ctx); !errors.Is(err, dbscope.ErrSessionBusy) {
			s.Errorf("a statement of the outer block beside the inner one: %v", err)
		}
		s.is(first.Commit(ctx), dbscope.ErrRolledBack)
		s.is(second.Commit(ctx), sql.ErrTxDone)
		return nil
	})
	s.is(err, dbscope.ErrRolledBack)
	s.is(err, dbscope.ErrSessionBusy)
	s.stored()
}

func (s *suite[H]) cancelledBetween() {
	s.ok(s.run(func(ctx context.Context) error { s.insert(ctx, 100); return nil }))
	before := s.Dialed()
	for i := range 20 {
		ctx, cancel := context.WithCancel(s.Context())
		err := dbscope.Run(ctx, func(ctx context.Context) error {
			s.insert(ctx, i)
			cancel()
			return errStop
		})
		s.is(err, errStop)
	}
	if n := s.Dialed() - before; n != 0 {
		s.Errorf("%d connections were made anew", n)
	}
	s.stored(100)
}

func (s *suite[H]) cancelledBefore() {
	cause := errors.New("the client went away")
	ctx, cancel := context.WithCancelCause(s.Context())
	err := dbscope.Run(ctx, func(ctx context.Context) error {
		h := s.session(ctx)
		s.ok(s.Insert(ctx, h, 1))
		cancel(cause)
		err := s.Insert(ctx, h, 2)
		s.is(err, context.Canceled)
		if errors.Is(err, sql.ErrTxDone) {
			s.Errorf("the error speaks of the transaction: %v", err)
		}
		return nil
	})
	s.ok(err) // success was said, and the cancellation does not govern the end
	s.stored(1)
}

func (s *suite[H]) marked() {
	err := s.run(func(ctx context.Context) error {
		s.insert(ctx, 1)
		s.ok(dbscope.MarkRollback(ctx))
		s.insert(ctx, 2)
		return nil
	})
	s.is(err, dbscope.ErrRollbackOnly)
	err = s.run(func(ctx context.Context) error {
		s.insert(ctx, 3)
		s.ok(dbscope.MarkRollback(ctx))
		s.is(s.db.Commit(ctx), dbscope.ErrRollbackOnly)
		return errStop
	})
	s.is(err, errStop)
	s.stored()
}

func (s *suite[H]) readOnly() {
	err := s.run(func(ctx context.Context) error {
		return s.Insert(ctx, s.session(ctx), 1)
	}, dbscope.ReadOnly())
	if s.ReadOnly && err == nil {
		s.Error("a read-only transaction stored a row")
	}
}

func (s *suite[H]) outlives() {
	over, done := make(chan struct{}), make(chan struct{})
	s.ok(s.run(func(ctx context.Context) error {
		h := s.session(ctx)
		s.ok(s.Insert(ctx, h, 1))
		go func() {
			defer close(done)
			<-over
			if err := s.Insert(ctx, h, 2); err == nil {
				s.Error("a handle worked after its scope")
			}
			if _, err := s.db.Session(ctx); !errors.Is(err, dbscope.ErrScopeEnded) {
				s.Errorf("Session answers %v", err)
			}
		}()
		return nil
	}))
	close(over)
	<-done
	s.stored(1)
}

func (s *suite[H]) hammer() {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var want []int
	err := s.run(func(ctx context.Context) error {
		h := s.session(ctx)
		for i := range 8 {
			wg.Go(func() {
				for j := range 20 {
					err := s.Insert(ctx, h, i*100+j)
					if err == nil {
						mu.Lock()
						want = append(want, i*100+j)
						mu.Unlock()
					} else if !errors.Is(err, dbscope.ErrSessionBusy) {
						s.Error(err)
					}
				}
			})
		}
		wg.Wait()
		return nil
	})
	s.ok(err)
	slices.Sort(want)
	s.stored(want...)
}

// Eventually waits for a condition that another goroutine, or the server,
// brings about: at most ten seconds, for a machine that is busy.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came about that %s", what)
		}
	}
}
