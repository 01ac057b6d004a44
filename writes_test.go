package dbscope_test

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// token is what the router of these tests makes of positions.
func token(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func tokenIs(t *testing.T, ctx context.Context, want string) {
	t.Helper()
	if got := dbscope.WritesToken(ctx); got != token(want) {
		text, _ := base64.RawURLEncoding.DecodeString(got)
		t.Fatalf("the token is %q, want %q", text, want)
	}
}

// R14.
func TestWhatIsCommittedIsNoted(t *testing.T) {
	for name, unit := range map[string]func(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx]){
		"Run": func(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx]) {
			ok(t, execOnce(ctx, db, "row"))
		},
		"an Atomic block of its own": func(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx]) {
			is(t, dbscope.Run(ctx, func(ctx context.Context) error {
				ok(t, db.Atomic(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "row") }))
				return errStop
			}), errStop)
		},
		"an early commit": func(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx]) {
			is(t, dbscope.Run(ctx, func(ctx context.Context) error {
				exec(ctx, t, db, "row")
				ok(t, db.Commit(ctx))
				tokenIs(t, ctx, "[7]")
				return errStop
			}), errStop)
		},
		"the handle's commit": func(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx]) {
			is(t, dbscope.Run(ctx, func(ctx context.Context) error {
				tx, err := db.Session(ctx)
				ok(t, err)
				ok(t, tx.Exec(ctx, "row"))
				ok(t, tx.Commit(ctx))
				return errStop
			}), errStop)
		},
		"Detached": func(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx]) {
			is(t, dbscope.Run(ctx, func(ctx context.Context) error {
				ok(t, db.Detached(ctx, func(ctx context.Context, tx *drivertest.Tx) error { return tx.Exec(ctx, "row") }))
				return errStop
			}), errStop)
		},
		"a Group": func(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx]) {
			g := dbscope.NewGroup(ctx)
			for range 3 {
				g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, db, "row") })
			}
			ok(t, g.Wait())
		},
		"a Group that commits together": func(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx]) {
			g := dbscope.NewGroup(ctx)
			g.CommitTogether()
			for range 3 {
				g.Go(func(ctx context.Context) error { return drivertest.Exec(ctx, db, "row") })
			}
			ok(t, g.Wait())
		},
		"an after-hook": func(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx]) {
			is(t, dbscope.Run(ctx, func(ctx context.Context) error {
				ok(t, dbscope.AfterRollback(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "row") }))
				return errStop
			}), errStop)
		},
		"a sibling": func(ctx context.Context, t *testing.T, db *dbscope.DB[*drivertest.Tx]) {
			ok(t, execOnce(ctx, db.Sibling("second"), "row"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, f, db := newRouted(t)
			ctx := dbscope.ReadYourWrites(t.Context(), "")
			tokenIs(t, ctx, "")
			unit(ctx, t, db)
			if len(f.Rows()) == 0 {
				t.Error("nothing was stored")
			}
			tokenIs(t, ctx, "[7]")
			r.asked()
			ok(t, execOnce(ctx, db, "read", dbscope.ReadOnly()))
			needs(t, r, driver.RouteRequest{ReadOnly: true, After: driver.Position{Number: 7}})
			ok(t, db.Close())
		})
	}
}

func TestWhatIsNotCommittedIsNotNoted(t *testing.T) {
	for name, unit := range map[string]func(ctx context.Context, t *testing.T, f *drivertest.Fake, db *dbscope.DB[*drivertest.Tx]){
		"a rollback": func(ctx context.Context, t *testing.T, _ *drivertest.Fake, db *dbscope.DB[*drivertest.Tx]) {
			is(t, dbscope.Run(ctx, func(ctx context.Context) error { exec(ctx, t, db, "row"); return errStop }), errStop)
		},
		"a commit that is refused": func(ctx context.Context, t *testing.T, f *drivertest.Fake, db *dbscope.DB[*drivertest.Tx]) {
			f.Inject("commit", drivertest.Fault{Err: errBroken, Outcome: driver.RolledBack})
			is(t, execOnce(ctx, db, "row"), dbscope.ErrRolledBack)
		},
		"a read-only unit": func(ctx context.Context, t *testing.T, _ *drivertest.Fake, db *dbscope.DB[*drivertest.Tx]) {
			ok(t, execOnce(ctx, db, "row", dbscope.ReadOnly()))
		},
		"a unit that wrote nothing": func(ctx context.Context, t *testing.T, f *drivertest.Fake, db *dbscope.DB[*drivertest.Tx]) {
			f.Answer(askBefore, "")
			ok(t, execOnce(ctx, db, "row"))
		},
		"a unit that did nothing": func(ctx context.Context, t *testing.T, _ *drivertest.Fake, _ *dbscope.DB[*drivertest.Tx]) {
			ok(t, dbscope.Run(ctx, func(context.Context) error { return nil }))
		},
		"a DB without a router": func(ctx context.Context, t *testing.T, _ *drivertest.Fake, _ *dbscope.DB[*drivertest.Tx]) {
			plain, db := newFake(t)
			wrote(plain, "9")
			ok(t, execOnce(ctx, db, "row"))
			if log := strings.Join(plain.Log(), ", "); strings.Contains(log, "BEFORE") {
				t.Errorf("calls are %s", log)
			}
		},
		"a context without ReadYourWrites": func(_ context.Context, t *testing.T, f *drivertest.Fake, db *dbscope.DB[*drivertest.Tx]) {
			ok(t, execOnce(t.Context(), db, "row"))
			tokenIs(t, t.Context(), "")
			equal(t, "calls", f.Log(), "open primary", "acquire", "begin", "exec row", "commit", "release")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, f, db := newRouted(t)
			ctx := dbscope.ReadYourWrites(t.Context(), "")
			unit(ctx, t, f, db)
			tokenIs(t, ctx, "")
			r.asked()
			ok(t, execOnce(ctx, db, "read", dbscope.ReadOnly()))
			needs(t, r, driver.RouteRequest{ReadOnly: true})
			ok(t, db.Close())
		})
	}
}

// Only the host that writes has what came last.
func TestAfterACommitWhosePositionIsNotKnownReadsGoToTheHostThatWrites(t *testing.T) {
	for name, inject := range map[string]func(f *drivertest.Fake){
		"an unknown commit": func(f *drivertest.Fake) {
			f.Inject("commit", drivertest.Fault{Err: errBroken, Outcome: driver.Unknown, Done: true})
		},
		"a question that fails": func(f *drivertest.Fake) {
			f.Inject("row", drivertest.Fault{}) // the one before
			f.Inject("row", drivertest.Fault{Err: errBroken})
		},
		"an answer that makes no sense": func(f *drivertest.Fake) { f.Answer(askAfter, "?") },
	} {
		t.Run(name, func(t *testing.T) {
			r, f, db := newRouted(t)
			ctx := dbscope.ReadYourWrites(t.Context(), "")
			inject(f)
			err := execOnce(ctx, db, "row")
			if name == "an unknown commit" {
				is(t, err, dbscope.ErrCommitUnknown)
			} else {
				ok(t, err)
			}
			equal(t, "stored", f.Rows(), "row")
			r.asked()
			ok(t, execOnce(ctx, db, "read", dbscope.ReadOnly()))
			needs(t, r, driver.RouteRequest{ReadOnly: true, After: driver.Newest})
			ok(t, db.Close())
		})
	}
}

func TestACommitBeforeWhichTheConnectionIsLostWasNotSent(t *testing.T) {
	for name, fate := range map[string]driver.Fate{"lost": driver.Lost, "aborted": driver.Aborted} {
		t.Run(name, func(t *testing.T) {
			r, f, db := newRouted(t)
			ctx := dbscope.ReadYourWrites(t.Context(), "")
			f.Inject("row", drivertest.Fault{Err: errBroken, Fate: fate})
			if fate == driver.Lost {
				f.Inject("rollback", drivertest.Fault{Err: errBroken})
			}
			err := execOnce(ctx, db, "row")
			is(t, err, dbscope.ErrRolledBack)
			is(t, err, errBroken)
			if strings.Contains(err.Error(), "unknown") {
				t.Errorf("error is %v", err)
			}
			equal(t, "stored", f.Rows())
			tokenIs(t, ctx, "")
			last := "release"
			if fate == driver.Lost {
				last = "discard"
				equal(t, "told of", r.told(), "primary: true")
			}
			if log := f.Log(); log[len(log)-1] != last {
				t.Errorf("calls are %s", strings.Join(log, ", "))
			}
			ok(t, db.Close())
		})
	}
}

func TestPositionsOnlyGrowAndAreEachRoutersOwn(t *testing.T) {
	r, f, db := newRouted(t)
	other, g, db2 := newRouted(t)
	wrote(g, "3")
	ctx := dbscope.ReadYourWrites(t.Context(), "")
	ok(t, execOnce(ctx, db, "row"))
	wrote(f, "5") // another host's answer, say
	ok(t, execOnce(ctx, db, "row"))
	ok(t, execOnce(ctx, db2, "row"))
	for r, after := range map[*router]uint64{r: 7, other: 3} {
		r.asked()
		ok(t, execOnce(ctx, map[*router]*dbscope.DB[*drivertest.Tx]{r: db, other: db2}[r], "read", dbscope.ReadOnly()))
		_ = after
	}
	needs(t, r, driver.RouteRequest{ReadOnly: true, After: driver.Position{Number: 7}})
	needs(t, other, driver.RouteRequest{ReadOnly: true, After: driver.Position{Number: 3}})
	ok(t, db.Close())
	ok(t, db2.Close())
}

func TestAReadOnlyUnitInsideAUnitSeesWhatThatHasCommitted(t *testing.T) {
	r, _, db := newRouted(t)
	ctx := dbscope.ReadYourWrites(t.Context(), token("given"))
	ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
		ok(t, execOnce(ctx, db, "read", dbscope.ReadOnly()))
		needs(t, r, driver.RouteRequest{ReadOnly: true, Token: []byte("given")})
		exec(ctx, t, db, "written")
		ok(t, db.Commit(ctx))
		r.asked()
		ok(t, execOnce(ctx, db, "read", dbscope.ReadOnly()))
		needs(t, r, driver.RouteRequest{ReadOnly: true, Token: []byte("given"), After: driver.Position{Number: 7}})
		tokenIs(t, ctx, "given[7]")
		return nil
	}))
	ok(t, db.Close())
}

func TestATokenThatIsNoneIsIgnored(t *testing.T) {
	for _, given := range []string{"", "%%%", "AAA=", strings.Repeat("A", 1000)} {
		ctx := dbscope.ReadYourWrites(t.Context(), given)
		tokenIs(t, ctx, "")
		r, _, db := newRouted(t)
		ok(t, execOnce(ctx, db, "read", dbscope.ReadOnly()))
		needs(t, r, driver.RouteRequest{ReadOnly: true})
		ok(t, execOnce(ctx, db, "written"))
		tokenIs(t, ctx, "[7]")
		ok(t, db.Close())
	}
}

// A middleware inside another one, or a job in a request.
func TestAContextOfOnesOwnWritesInAnotherOneKeepsThePromiseOfBoth(t *testing.T) {
	r, f, db := newRouted(t)
	outer := dbscope.ReadYourWrites(t.Context(), token("outer"))
	ok(t, execOnce(outer, db, "row"))
	inner := dbscope.ReadYourWrites(outer, "")
	r.asked()
	ok(t, execOnce(inner, db, "read", dbscope.ReadOnly()))
	needs(t, r, driver.RouteRequest{ReadOnly: true, Token: []byte("outer"), After: driver.Position{Number: 7}})
	wrote(f, "8")
	ok(t, execOnce(inner, db, "row"))
	tokenIs(t, outer, "outer[8]")
}
