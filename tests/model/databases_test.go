package model_test

import (
	"context"
	"errors"
	"io"
	"strconv"
	"testing"

	"go.uber.org/goleak"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/internal/mariatest"
	"github.com/dbscope/dbscope/internal/mysqltest"
	"github.com/dbscope/dbscope/internal/pgtest"
)

var ok = check.OK

func TestMain(m *testing.M) { goleak.VerifyTestMain(mysqltest.Main(mariatest.Main(pgtest.Main(m)))) }

// kind is what the model and the generator know of a database.
type kind struct {
	oneWriter bool // a second one waits for the first one's end
	inject    bool // failures are injected
	deferred  bool // a constraint is checked by COMMIT
	hasty     bool // a context that ends as its statement has returned costs nothing
	fates     map[failure]failure
}

// database is one that programs run on.
type database interface {
	Atomic(ctx context.Context, fn func(context.Context) error, opts ...dbscope.AtomicOption) error
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
	Release(ctx context.Context) error
	BeforeCommit(ctx context.Context, hook func(context.Context) error) error
	AfterCommit(ctx context.Context, hook func(context.Context) error) error
	AfterRollback(ctx context.Context, hook func(context.Context) error) error

	store(ctx context.Context, s *step) error
	// hold makes the statement of the step wait until goOn is called. reached blocks
	// until it waits, or reports false where it has ended instead.
	hold(s *step) (reached func(ended chan error) bool, goOn func())
	read(ctx context.Context, s *step) (rest func() error, err error) // leaves rows open
	nest(ctx context.Context) (end func(commit bool) error, err error)
	handle(ctx context.Context) (store func(ctx context.Context, s *step) error, err error)
	inject(s *step)
	begin() // a program
	stored(t failer) (numbers []int)
	inUse(t failer) int // connections
}

// failer is what rapid's tests have in common with others.
type failer = check.Test

var fakeKind = kind{inject: true, hasty: true, fates: map[failure]failure{
	harmless: harmless, aborting: aborting, undoing: undoing, losing: losing,
}}

var fates = map[failure]driver.Fate{
	harmless: driver.Intact, aborting: driver.Aborted, undoing: driver.Undone, losing: driver.Lost,
}

// fake is a new one for each program.
type fake struct {
	*dbscope.DB[*drivertest.Tx]
	f    *drivertest.Fake
	name string
}

func (d *fake) begin() {
	d.f = drivertest.NewFake()
	d.DB = d.f.DB(dbscope.Name(d.name))
}

func (d *fake) store(ctx context.Context, s *step) error {
	row := strconv.Itoa(s.number)
	if s.failure != sound && !s.lingers {
		d.f.Inject("exec "+row, drivertest.Fault{Err: s.err, Fate: fates[s.failure]})
	}
	return drivertest.Exec(ctx, d.DB, row)
}

func (d *fake) hold(s *step) (reached func(chan error) bool, goOn func()) {
	entered, until := make(chan struct{}), make(chan struct{})
	fault := drivertest.Fault{Entered: entered, Until: until}
	if s.failure != sound {
		fault.Err, fault.Fate = s.err, fates[s.failure]
	}
	kind := "exec "
	if s.query {
		kind = "query "
	}
	d.f.Inject(kind+strconv.Itoa(s.number), fault)
	return func(ended chan error) bool {
		select {
		case <-entered:
			return true
		case err := <-ended:
			ended <- err
			return false
		}
	}, func() { close(until) }
}

func (d *fake) read(ctx context.Context, s *step) (rest func() error, err error) {
	tx, err := d.Session(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, strconv.Itoa(s.number))
	return func() error {
		for {
			switch _, err := rows.Next(); {
			case errors.Is(err, io.EOF):
				return rows.Close()
			case err != nil:
				return err
			}
		}
	}, err
}

// endOf returns what ends a nested transaction.
func endOf(ctx context.Context, tx interface {
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
},
) func(commit bool) error {
	return func(commit bool) error {
		if commit {
			return tx.Commit(ctx)
		}
		return tx.Rollback(ctx)
	}
}

func (d *fake) nest(ctx context.Context) (end func(commit bool) error, err error) {
	tx, err := d.Session(ctx)
	if err != nil {
		return nil, err
	}
	inner, err := tx.Begin(ctx)
	return endOf(ctx, inner), err
}

func (d *fake) handle(ctx context.Context) (func(context.Context, *step) error, error) {
	tx, err := d.Session(ctx)
	return func(ctx context.Context, s *step) error { return tx.Exec(ctx, strconv.Itoa(s.number)) }, err
}

func (d *fake) inject(s *step) {
	f := drivertest.Fault{Err: s.err, Fate: fates[s.fault.fate], Done: s.fault.done, Outcome: driver.RolledBack}
	if s.fault.state == unknown {
		f.Outcome = driver.Unknown
	}
	d.f.Inject(s.fault.kind, f)
}

func (d *fake) stored(t failer) (numbers []int) {
	for _, row := range d.f.Rows() {
		n, err := strconv.Atoi(row)
		ok(t, err)
		numbers = append(numbers, n)
	}
	return numbers
}

func (d *fake) inUse(failer) int { return d.f.Open() }
