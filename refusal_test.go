package dbscope_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/observe"
)

// refusals keeps the errors of those it was told of.
type refusals struct {
	mu  sync.Mutex
	all []error
}

func (r *refusals) Start(ctx context.Context, _ observe.Event) (context.Context, observe.Span) {
	return ctx, r
}

func (r *refusals) End(_ context.Context, e observe.Event) {
	if e.Kind == observe.Refusal {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = append(r.all, e.Err)
	}
}

// takes fails the test unless it was these since the last time.
func (r *refusals) takes(t *testing.T, what string, want ...error) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) != len(want) {
		t.Fatalf("%s: told of %v, want %v", what, r.all, want)
	}
	for i, err := range r.all {
		is(t, err, want[i])
	}
	r.all = nil
}

func TestAnObserverIsToldOfUsesThatAreRefused(t *testing.T) {
	for of, observed := range map[string]func(r *refusals) (dbscope.DBOption, dbscope.Option){
		"a unit": func(r *refusals) (dbscope.DBOption, dbscope.Option) {
			return dbscope.Name(""), dbscope.Observe(r)
		},
		"a DB": func(r *refusals) (dbscope.DBOption, dbscope.Option) {
			return dbscope.Observe(r), dbscope.Name("")
		},
		"both": func(r *refusals) (dbscope.DBOption, dbscope.Option) {
			return dbscope.Observe(r), dbscope.Observe(r)
		},
	} {
		t.Run("by "+of, func(t *testing.T) {
			r := &refusals{}
			ofDB, ofUnit := observed(r)
			f := drivertest.NewFake()
			db := f.DB(ofDB)
			left := make(chan context.Context, 1)
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				left <- ctx
				exec(ctx, t, db, "a")
				ok(t, db.Atomic(ctx, func(inner context.Context) error {
					exec(inner, t, db, "b")
					is(t, drivertest.Exec(ctx, db, "c"), dbscope.ErrSessionBusy)
					r.takes(t, "beside a block", dbscope.ErrSessionBusy)
					return nil
				}))
				tx, err := db.Session(ctx)
				ok(t, err)
				rows, err := tx.Query(ctx, "rows")
				ok(t, err)
				is(t, drivertest.Exec(ctx, db, "d"), dbscope.ErrSessionBusy)
				r.takes(t, "beside rows", dbscope.ErrSessionBusy)
				return rows.Close()
			}, ofUnit))
			r.takes(t, "until the end")
			ctx := <-left
			is(t, drivertest.Exec(ctx, db, "e"), dbscope.ErrScopeEnded)
			is(t, db.Commit(ctx), dbscope.ErrScopeEnded)
			r.takes(t, "after the end", dbscope.ErrScopeEnded, dbscope.ErrScopeEnded)
		})
	}
}

// The reason is another one, and somebody has told of that.
func TestAnObserverIsNotToldOfWhatAnUndoneTransactionRefuses(t *testing.T) {
	r := &refusals{}
	f := drivertest.NewFake()
	db := f.DB(dbscope.Observe(r))
	f.Inject("exec", drivertest.Fault{Err: errors.New("gone"), Fate: driver.Undone})
	_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
		_ = drivertest.Exec(ctx, db, "a")
		is(t, drivertest.Exec(ctx, db, "b"), dbscope.ErrRolledBack)
		return nil
	})
	r.takes(t, "after an error")
}

func TestEachRefusalIsToldOnceAlsoWhereTheUnitEndsMeanwhile(t *testing.T) {
	r := &refusals{}
	db := drivertest.NewFake().DB(dbscope.Observe(r))
	refused := make(chan error, 1000)
	var all sync.WaitGroup
	_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "first")
		for range 4 {
			all.Go(func() {
				for range 100 {
					err := drivertest.Exec(ctx, db, "a")
					switch {
					case errors.Is(err, dbscope.ErrRolledBack): // its statement ran as the unit ended
					case errors.Is(err, dbscope.ErrSessionBusy), errors.Is(err, dbscope.ErrScopeEnded):
						refused <- err
					case err != nil:
						t.Error(err)
					}
				}
			})
		}
		return nil
	})
	all.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) != len(refused) {
		t.Errorf("told of %d refusals, and there were %d", len(r.all), len(refused))
	}
}
