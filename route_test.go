package dbscope_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
)

// router is a [driver.Router] that sends who writes to "primary" and who does
// not to "replica", unless a test says otherwise.
type router struct {
	route func(need driver.RouteRequest) (driver.Route, error) // or nil
	ready func() (bool, error)                                 // or nil

	open func(context.Context, string) (driver.Engine, error) // a pool of the router's own

	mu      sync.Mutex
	left    []func(host string, gone bool)
	needs   []driver.RouteRequest
	failed  []string
	stopped int
}

// The queries of a router, as the fake sees them.
const (
	askBefore = "BEFORE COMMIT"
	askAfter  = "AFTER COMMIT"
)

func (r *router) Use(open func(context.Context, string) (driver.Engine, error), left func(string, bool)) func() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = open
	r.left = append(r.left, left)
	return func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.stopped++
		return nil
	}
}

func (r *router) Route(_ context.Context, need driver.RouteRequest) (driver.Route, error) {
	r.mu.Lock()
	r.needs = append(r.needs, need)
	r.mu.Unlock()
	if r.route != nil {
		return r.route(need)
	}
	if need.ReadOnly && !need.Behind {
		return driver.Route{Host: "replica", Replica: true, After: need.After}, nil
	}
	return driver.Route{Host: "primary"}, nil
}

func (r *router) Ready(context.Context, driver.Conn, driver.Route) (bool, error) {
	if r.ready != nil {
		return r.ready()
	}
	return true, nil
}

func (r *router) Failed(host string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, fmt.Sprint(host, ": ", errors.Is(err, errBroken)))
}

func (r *router) Host() string { return "primary" }

func (r *router) Queries() (before, after string) { return askBefore, askAfter }

// Position reads "wrote" and a number.
func (r *router) Position(before, after []string) (driver.Position, bool) {
	if !slices.Equal(before, []string{"wrote"}) || len(after) != 1 {
		return driver.Position{}, false
	}
	n, err := strconv.ParseUint(after[0], 10, 64)
	if err != nil {
		return driver.Newest, true
	}
	return driver.Position{Number: n}, true
}

func (r *router) Sign(p driver.Position, token []byte) []byte {
	return append(bytes.Clone(token), fmt.Sprintf("[%d]", p.Number)...)
}

// asked returns what was asked since the last time.
func (r *router) asked() (needs []driver.RouteRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	needs, r.needs = r.needs, nil
	return needs
}

func (r *router) told() (failed []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	failed, r.failed = r.failed, nil
	return failed
}

// newRouted returns a fake whose commits come to the position 7.
func newRouted(t *testing.T, opts ...dbscope.DBOption) (*router, *drivertest.Fake, *dbscope.DB[*drivertest.Tx]) {
	r := &router{}
	f, db := newFake(t, append([]dbscope.DBOption{dbscope.Router(r)}, opts...)...)
	wrote(f, "7")
	return r, f, db
}

func wrote(f *drivertest.Fake, at string) {
	f.Answer(askBefore, "wrote")
	f.Answer(askAfter, at)
}

func needs(t *testing.T, r *router, want ...driver.RouteRequest) {
	t.Helper()
	got := fmt.Sprintf("%+v", r.asked())
	if want := fmt.Sprintf("%+v", want); got != want {
		t.Fatalf("the router was asked for\n%s, want\n%s", got, want)
	}
}

func execOnce(ctx context.Context, db *dbscope.DB[*drivertest.Tx], row string, opts ...dbscope.Option) error {
	return dbscope.Run(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, row) }, opts...)
}

// R12.
func TestOnlyReadOnlyUnitsAskForAReplica(t *testing.T) {
	r, _, db := newRouted(t, dbscope.AllowUnscoped())
	ctx := t.Context()
	ok(t, execOnce(ctx, db, "a", dbscope.ReadOnly()))
	needs(t, r, driver.RouteRequest{ReadOnly: true})
	ok(t, execOnce(ctx, db, "b"))
	needs(t, r, driver.RouteRequest{})
	ok(t, drivertest.Exec(ctx, db, "unscoped"))
	needs(t, r, driver.RouteRequest{})
	ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
		ok(t, db.Atomic(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "c") }, dbscope.ReadOnly()))
		needs(t, r, driver.RouteRequest{ReadOnly: true})
		exec(ctx, t, db, "d") // the block's transaction is over
		exec(ctx, t, db, "e")
		needs(t, r, driver.RouteRequest{})
		return nil
	}))
	if _, err := dbscope.Gate(db).Engine(ctx); err != nil {
		t.Error(err)
	}
	needs(t, r, driver.RouteRequest{})
	ok(t, db.Close())
}

func TestAHostThatCannotBeReachedIsToldAndAnotherOneAsked(t *testing.T) {
	for step, fault := range map[string]drivertest.Fault{
		"open":    {Err: errBroken},
		"acquire": {Err: errBroken},
		"begin":   {Err: errBroken, Fate: driver.Lost},
	} {
		t.Run(step, func(t *testing.T) {
			r, f, db := newRouted(t)
			r.route = func(need driver.RouteRequest) (driver.Route, error) {
				return driver.Route{Host: fmt.Sprint("host-", need.Failures)}, nil
			}
			tries := 1
			if step == "begin" { // a connection may be dead, and all that were idle
				tries = 10
			}
			for range 2 * tries {
				f.Inject(step, fault)
			}
			ok(t, execOnce(t.Context(), db, "row"))
			needs(t, r, driver.RouteRequest{}, driver.RouteRequest{Failures: 1}, driver.RouteRequest{Failures: 2})
			equal(t, "told of", r.told(), "host-0: true", "host-1: true")
			equal(t, "stored", f.Rows(), "row")
			ok(t, db.Close())
		})
	}
}

func TestAUnitThatIsCancelledWhileItConnectsBlamesNoHost(t *testing.T) {
	for _, step := range []string{"open", "acquire", "begin"} {
		t.Run(step, func(t *testing.T) {
			r, f, db := newRouted(t)
			ctx, cancel := context.WithCancel(t.Context())
			entered := make(chan struct{})
			f.Inject(step, drivertest.Fault{Entered: entered, Until: make(chan struct{}), Err: errBroken})
			go func() { <-entered; cancel() }()
			is(t, execOnce(ctx, db, "row"), context.Canceled)
			equal(t, "told of", r.told())
			ok(t, db.Close())
		})
	}
}

func TestAReplicaThatIsBehindIsNotUsed(t *testing.T) {
	r, f, db := newRouted(t)
	behind := true
	r.ready = func() (bool, error) { return !behind, nil }
	ctx := dbscope.ReadYourWrites(t.Context(), "")
	ok(t, execOnce(ctx, db, "written"))
	r.asked()
	ok(t, execOnce(ctx, db, "read", dbscope.ReadOnly()))
	after := driver.Position{Number: 7}
	needs(t, r, driver.RouteRequest{ReadOnly: true, After: after}, driver.RouteRequest{ReadOnly: true, After: after, Behind: true})
	behind = false
	ok(t, execOnce(ctx, db, "read", dbscope.ReadOnly()))
	needs(t, r, driver.RouteRequest{ReadOnly: true, After: after})
	equal(t, "told of", r.told()) // being behind is no fault
	begins := slices.DeleteFunc(f.Log(), func(call string) bool { return !strings.HasPrefix(call, "begin") })
	equal(t, "transactions", begins, "begin", "begin read-only", "begin read-only") // not on the one that was behind
	ok(t, db.Close())
}

func TestAnErrorOfTheQuestionToAReplicaIsTheStatements(t *testing.T) {
	r, f, db := newRouted(t)
	r.ready = func() (bool, error) { return false, errBroken }
	ctx := dbscope.ReadYourWrites(t.Context(), "")
	ok(t, execOnce(ctx, db, "written"))
	err := execOnce(ctx, db, "read", dbscope.ReadOnly())
	is(t, err, errBroken)
	equal(t, "stored", f.Rows(), "written")
	ok(t, db.Close())
}

func TestAnErrorOfTheRouterReachesTheUserWithTheDBsName(t *testing.T) {
	r, f, db := newRouted(t, dbscope.Name("shop"), dbscope.AllowUnscoped())
	r.route = func(need driver.RouteRequest) (driver.Route, error) {
		if need.Failures > 0 || need.ReadOnly {
			return driver.Route{}, errStop
		}
		return driver.Route{Host: "one"}, nil
	}
	f.Inject("acquire", drivertest.Fault{Err: errBroken})
	err := execOnce(t.Context(), db, "row")
	is(t, err, errStop)
	is(t, err, errBroken) // of the host that was tried
	if !strings.HasPrefix(err.Error(), "dbscope: shop: ") {
		t.Errorf("error is %v", err)
	}
	r.route = func(driver.RouteRequest) (driver.Route, error) { return driver.Route{}, errStop }
	_, engine := dbscope.Gate(db).Engine(t.Context())
	for _, err := range []error{engine, drivertest.Exec(t.Context(), db, "unscoped")} {
		is(t, err, errStop)
		if !strings.HasPrefix(err.Error(), "dbscope: shop: ") {
			t.Errorf("error is %v", err)
		}
	}
	ok(t, db.Close())
}

func TestWithARouterNobodySwitchesHosts(t *testing.T) {
	_, f, db := newRouted(t)
	err := db.SwitchHost(t.Context(), "another")
	if err == nil || !strings.Contains(err.Error(), "option Router") {
		t.Errorf("error is %v", err)
	}
	equal(t, "calls", f.Log())
	if db.Host() != "primary" || db.Sibling("second").Host() != "primary" {
		t.Errorf("the host is %q", db.Host())
	}
}

func TestCloseClosesThePoolOfEachHostAndStopsTheRouter(t *testing.T) {
	r, f, db := newRouted(t)
	ok(t, execOnce(t.Context(), db, "a", dbscope.ReadOnly()))
	ok(t, execOnce(t.Context(), db.Sibling("second"), "b"))
	f.Inject("close", drivertest.Fault{Err: errBroken})
	is(t, db.Close(), errBroken)
	ok(t, db.Close())
	pools := opens(f)
	slices.Sort(pools)
	equal(t, "pools", pools, "close", "close", "open primary", "open replica")
	if len(r.left) != 1 || r.stopped != 1 {
		t.Errorf("the router was used %d times and stopped %d times", len(r.left), r.stopped)
	}
	if err := execOnce(t.Context(), db, "late"); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("a closed DB says %v", err)
	}
}

func TestASessionInFlightFinishesOnAHostThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f, db := newRouted(t)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			exec(ctx, t, db, "a")
			r.left[0]("primary", true)
			r.left[0]("primary", true) // again, which means nothing
			r.left[0]("one that was never used", true)
			synctest.Wait()
			exec(ctx, t, db, "b")
			equal(t, "pools", opens(f), "open primary")
			ok(t, db.Commit(ctx))
			synctest.Wait()
			equal(t, "pools", opens(f), "open primary", "close")
			exec(ctx, t, db, "c") // it is back
			return nil
		}))
		equal(t, "stored", f.Rows(), "a", "b", "c")
		ok(t, db.Close())
		equal(t, "pools", opens(f), "open primary", "close", "open primary", "close")
	})
}

// Connections of a host that is frozen never come back.
func TestASessionThatWaitsForAConnectionGoesWhereItIsRoutedAnew(t *testing.T) {
	for name, gone := range map[string]bool{"from a host that has lost its role": false, "from a host that is gone": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, f, db := newRouted(t)
				primary := "old"
				r.route = func(driver.RouteRequest) (driver.Route, error) { return driver.Route{Host: primary}, nil }
				f.Inject("acquire", drivertest.Fault{Until: make(chan struct{})})
				stored := make(chan error)
				go func() { stored <- execOnce(t.Context(), db, "a") }()
				synctest.Wait()
				r.left[0]("another", false) // not this one
				synctest.Wait()
				equal(t, "pools", opens(f), "open old")
				primary = "new"
				r.left[0]("old", gone)
				ok(t, <-stored)
				equal(t, "stored", f.Rows(), "a")
				equal(t, "blamed", r.told())
				ok(t, db.Close())
				pools := opens(f)
				slices.Sort(pools)
				equal(t, "pools", pools, "close", "close", "open new", "open old")
			})
		})
	}
}

func TestASessionWhoseHostIsLeftBeforeItWaitsIsRoutedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f, db := newRouted(t)
		ok(t, execOnce(t.Context(), db, "a", dbscope.ReadOnly()))
		r.route = func(driver.RouteRequest) (driver.Route, error) {
			r.route = nil
			r.left[0]("replica", false)
			f.Inject("acquire", drivertest.Fault{Until: make(chan struct{})})
			return driver.Route{Host: "replica"}, nil
		}
		ok(t, execOnce(t.Context(), db, "b"))
		equal(t, "pools", opens(f), "open replica", "open primary")
		ok(t, db.Close())
	})
}

// Nothing would close it.
func TestNoPoolIsLeftOpenOfAHostThatIsGoneBeforeItIsOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f, db := newRouted(t)
		r.route = func(driver.RouteRequest) (driver.Route, error) {
			r.route = nil
			r.left[0]("old", true)
			return driver.Route{Host: "old"}, nil
		}
		ok(t, execOnce(t.Context(), db, "a"))
		synctest.Wait()
		pools := opens(f)
		slices.Sort(pools)
		equal(t, "pools", pools, "close", "open old", "open primary")
		ok(t, db.Close())
	})
}

func TestNoUnitFailsWhileHostsComeAndGo(t *testing.T) {
	r, f, db := newRouted(t)
	f.LimitConns(5) // so that some wait for one
	var units sync.WaitGroup
	stop := make(chan struct{})
	for i := range 20 {
		units.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				var opts []dbscope.Option
				if n%2 == 0 {
					opts = append(opts, dbscope.ReadOnly())
				}
				if err := execOnce(t.Context(), db, fmt.Sprint(i), opts...); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for n := range 200 {
		r.left[0]([]string{"primary", "replica"}[n%2], n%3 > 0)
	}
	closing := make(chan struct{})
	go func() { // as a router may that is stopping
		defer close(closing)
		r.left[0]("primary", true)
	}()
	close(stop)
	units.Wait()
	ok(t, db.Close())
	<-closing
	pools := opens(f)
	if closed := len(slices.DeleteFunc(slices.Clone(pools), func(call string) bool { return call != "close" })); closed*2 != len(pools) {
		t.Errorf("%d pools were opened, %d closed", len(pools)-closed, closed)
	}
}

func TestBeforeSessionRunsOncePerSessionHoweverManyHostsAreTried(t *testing.T) {
	calls := 0
	r, f, db := newRouted(t, dbscope.BeforeSession(func(context.Context) error { calls++; return nil }))
	f.Inject("acquire", drivertest.Fault{Err: errBroken})
	f.Inject("acquire", drivertest.Fault{Err: errBroken})
	ok(t, execOnce(t.Context(), db, "row"))
	if calls != 1 || len(r.asked()) != 3 {
		t.Errorf("%d calls", calls)
	}
	ok(t, db.Close())
}

func TestTheRouterIsToldOfWhatMayBeItsHostsFault(t *testing.T) {
	type unit struct {
		step  string
		fault drivertest.Fault
		opts  []dbscope.Option
		told  []string
	}
	for name, u := range map[string]unit{
		"a lost connection": {"exec", drivertest.Fault{Err: errBroken, Fate: driver.Lost}, nil, []string{"primary: true"}},
		"a lost connection to a replica": {
			"exec",
			drivertest.Fault{Err: errBroken, Fate: driver.Lost},
			[]dbscope.Option{dbscope.ReadOnly()},
			[]string{"replica: true"},
		},
		"an unknown commit": {"commit", drivertest.Fault{Err: errBroken, Outcome: driver.Unknown}, nil, []string{"primary: true"}},
		"a refused write": {
			"exec",
			drivertest.Fault{Err: errors.Join(errBroken, drivertest.ErrReadOnly), Fate: driver.Aborted},
			nil,
			[]string{"primary: true"},
		},
		"a write that was to be refused": {
			"exec",
			drivertest.Fault{Err: drivertest.ErrReadOnly, Fate: driver.Aborted},
			[]dbscope.Option{dbscope.ReadOnly()},
			nil,
		},
		"an error":          {"exec", drivertest.Fault{Err: errBroken, Fate: driver.Aborted}, nil, nil},
		"a refused commit":  {"commit", drivertest.Fault{Err: errBroken, Outcome: driver.RolledBack}, nil, nil},
		"a failed rollback": {"rollback", drivertest.Fault{Err: errBroken}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r, f, db := newRouted(t)
			f.Inject(u.step, u.fault)
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				if err := drivertest.Exec(ctx, db, "row"); err != nil || u.step != "rollback" {
					return err
				}
				return errStop
			}, u.opts...)
			if err == nil {
				t.Error("no error")
			}
			equal(t, "told of", r.told(), u.told...)
			ok(t, db.Close())
		})
	}
}

func TestAStatementThatIsCancelledIsNotItsHostsFault(t *testing.T) {
	r, f, db := newRouted(t)
	ctx, cancel := context.WithCancel(t.Context())
	entered := make(chan struct{})
	f.Inject("exec", drivertest.Fault{Entered: entered, Until: make(chan struct{}), Err: errBroken, Fate: driver.Lost})
	go func() { <-entered; cancel() }()
	is(t, execOnce(ctx, db, "row"), context.Canceled)
	equal(t, "told of", r.told())
	ok(t, db.Close())
}

func TestARefusedWriteTellsWhatToDo(t *testing.T) {
	refused := drivertest.Fault{Err: drivertest.ErrReadOnly, Fate: driver.Aborted}
	_, f, db := newRouted(t)
	_, plain := newFake(t)
	for _, c := range []struct {
		db   *dbscope.DB[*drivertest.Tx]
		opts []dbscope.Option
		want string
	}{
		{db, []dbscope.Option{dbscope.ReadOnly()}, "this unit was begun with the option ReadOnly"},
		{db, nil, "the host primary has become a replica, run the unit again"},
	} {
		f.Inject("exec", refused)
		err := execOnce(t.Context(), c.db, "row", c.opts...)
		is(t, err, drivertest.ErrReadOnly)
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("error is %v, want one that says %q", err, c.want)
		}
	}
	err := execOnce(t.Context(), plain, "row", dbscope.ReadOnly())
	ok(t, err) // the fake itself refuses nothing
	ok(t, db.Close())
}

// R12.
func TestTheLedgerIsLookedUpOnTheHostThatWritesNow(t *testing.T) {
	r, f, db := newRouted(t, dbscope.SettleByLedger())
	writer := "first"
	r.route = func(driver.RouteRequest) (driver.Route, error) { return driver.Route{Host: writer}, nil }
	f.Inject("commit", drivertest.Fault{Err: errBroken, Outcome: driver.Unknown, Done: true})
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		exec(ctx, t, db, "row")
		writer = "second"
		return nil
	}))
	equal(t, "pools", opens(f), "open first", "open second")
	equal(t, "stored", withoutLedger(f), "row")
	equal(t, "told of", r.told(), "first: true")
	ok(t, db.Close())
}

func TestALedgerIsAskedForUntilAHostWritesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f, db := newRouted(t, dbscope.SettleByLedger())
		start := time.Now()
		r.route = func(driver.RouteRequest) (driver.Route, error) {
			if d := time.Since(start); d > 0 && d < time.Second {
				return driver.Route{}, errStop
			}
			return driver.Route{Host: "primary"}, nil
		}
		f.Inject("commit", drivertest.Fault{Err: errBroken, Outcome: driver.Unknown})
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			exec(ctx, t, db, "row")
			time.Sleep(time.Millisecond)
			return nil
		})
		is(t, err, dbscope.ErrRolledBack)
		if d := time.Since(start); errors.Is(err, dbscope.ErrCommitUnknown) || d < time.Second {
			t.Errorf("after %v: %v", d, err)
		}
		ok(t, db.Close())
	})
}
