package slogscope_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/internal/check"
	"github.com/dbscope/dbscope/observe/slogscope"
)

var (
	ok      = check.OK
	errStop = errors.New("stop")
)

// journal is what was written.
type journal struct{ bytes.Buffer }

type line = map[string]any

// lines takes what was written.
func (j *journal) lines(t *testing.T) (all []line) {
	t.Helper()
	for text := range strings.Lines(j.String()) {
		var l line
		ok(t, json.Unmarshal([]byte(text), &l))
		all = append(all, l)
	}
	j.Reset()
	return all
}

// one takes the line, where it is the only one.
func (j *journal) one(t *testing.T) line {
	t.Helper()
	all := j.lines(t)
	if len(all) != 1 {
		t.Fatalf("there are %d lines, want one: %v", len(all), all)
	}
	return all[0]
}

func newDB(opts ...slogscope.Option) (*journal, *drivertest.Fake, *dbscope.DB[*drivertest.Tx]) {
	j := &journal{}
	logger := slog.New(slog.NewJSONHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
	f := drivertest.NewFake()
	return j, f, f.DB(dbscope.Observe(slogscope.New(append([]slogscope.Option{slogscope.Logger(logger)}, opts...)...)))
}

func has(t *testing.T, l line, want line) {
	t.Helper()
	for field, value := range want {
		if l[field] != value {
			t.Errorf("%s is %v, want %v", field, l[field], value)
		}
	}
}

// fields fails the test unless the line has these and no others.
func fields(t *testing.T, l line, want ...string) {
	t.Helper()
	want = append(want, "level", "msg", "time", "unit", "name")
	slices.Sort(want)
	check.Equal(t, "fields", slices.Sorted(maps.Keys(l)), want...)
}

func TestAUnitOfWhichThereIsNothingToSayHasNoLine(t *testing.T) {
	j, _, db := newDB()
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }))
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, drivertest.Exec(ctx, db, "a"))
		return dbscope.MarkRollback(ctx)
	})
	check.Is(t, err, dbscope.ErrRollbackOnly)
	if all := j.lines(t); len(all) > 0 {
		t.Errorf("wrote %v", all)
	}
}

func TestAUnitThatFailsHasALine(t *testing.T) {
	j, _, db := newDB()
	check.Is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		ok(t, drivertest.Exec(ctx, db, "a"))
		return errStop
	}, dbscope.Name("job")), errStop)
	l := j.one(t)
	has(t, l, line{
		"level": "ERROR", "msg": "unit of work failed", "name": "job", "error": "stop", "outcome": "rolled back",
		"transactions": 1.0, "statements": 1.0, "attempt": 1.0,
	})
	fields(t, l, "duration", "outcome", "transactions", "statements", "waited", "idle", "attempt", "error")
}

func TestAStatementsErrorIsInTheLineOfItsUnit(t *testing.T) {
	j, f, db := newDB()
	f.Inject("exec", drivertest.Fault{Err: errors.New("no such table"), Fate: driver.Aborted})
	_ = dbscope.Run(t.Context(), func(ctx context.Context) error {
		_ = drivertest.Exec(ctx, db, "a")
		return nil
	})
	l := j.one(t)
	if text, _ := l["statement_error"].(string); !strings.Contains(text, "no such table") {
		t.Errorf("the line is %v", l)
	}
}

func TestAUnitThatIsRunAgainHasALineForEachAttempt(t *testing.T) {
	j, f, db := newDB()
	for range 2 {
		f.Inject("commit", drivertest.Fault{Err: drivertest.ErrTransient, Outcome: driver.RolledBack})
	}
	attempts := dbscope.Retry(dbscope.RetryPolicy{Attempts: 2, MinDelay: time.Microsecond})
	store := func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }
	check.Is(t, dbscope.Run(t.Context(), store, attempts), drivertest.ErrTransient)
	all := j.lines(t)
	if len(all) != 2 {
		t.Fatalf("there are %d lines, want 2", len(all))
	}
	has(t, all[0], line{"level": "WARN", "msg": "unit of work failed and is run again", "attempt": 1.0})
	has(t, all[1], line{"level": "ERROR", "msg": "unit of work failed", "attempt": 2.0})
}

func TestABlockThatIsRunAgainHasALine(t *testing.T) {
	j, f, db := newDB()
	f.Inject("exec", drivertest.Fault{Err: drivertest.ErrTransient, Fate: driver.Aborted})
	again := dbscope.Retry(dbscope.RetryPolicy{Attempts: 2, MinDelay: time.Microsecond})
	ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
		return db.Atomic(ctx, func(ctx context.Context) error { return drivertest.Exec(ctx, db, "a") }, again)
	}))
	l := j.one(t)
	has(t, l, line{"level": "WARN", "msg": "a block of the unit failed and is run again", "attempt": 1.0})
	fields(t, l, "attempt", "error")
}

func TestASlowUnitHasALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, _, db := newDB(slogscope.Slow(time.Minute), slogscope.Idle(0))
		take := func(d time.Duration) {
			ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, drivertest.Exec(ctx, db, "a"))
				time.Sleep(d)
				return nil
			}))
		}
		take(time.Minute)
		if all := j.lines(t); len(all) > 0 {
			t.Errorf("wrote %v", all)
		}
		take(2 * time.Minute)
		has(t, j.one(t), line{"level": "WARN", "msg": "unit of work was slow", "duration": float64(2 * time.Minute), "idle": float64(2 * time.Minute)})
	})
}

func TestWhatIsSuspiciousHasALineWithThePlaceInTheCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, _, db := newDB(slogscope.Slow(0))
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, drivertest.Exec(ctx, db, "a"))
			time.Sleep(time.Second)
			synctest.Wait()
			return nil
		}, dbscope.Name("job")))
		l := j.one(t)
		has(t, l, line{"level": "WARN", "suspicion": "idle", "db": "fake", "name": "job"})
		fields(t, l, "suspicion", "db", "duration", "opened")
		if at, _ := l["opened"].(string); !strings.Contains(at, "slogscope_test.go:") {
			t.Errorf("it was opened at %q", at)
		}
	})
}

func TestTheTextOfAStatementIsWrittenOnlyWhereOneAsksForIt(t *testing.T) {
	for _, asked := range []bool{false, true} {
		opts := []slogscope.Option{slogscope.Repetitions(3)}
		if asked {
			opts = append(opts, slogscope.StatementText())
		}
		j, _, db := newDB(opts...)
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			tx, err := db.Session(ctx)
			ok(t, err)
			for range 3 {
				rows, err := tx.Query(ctx, "select secret")
				ok(t, err)
				ok(t, rows.Close())
			}
			return nil
		}))
		written := j.String()
		l := j.one(t)
		has(t, l, line{"suspicion": "repeated", "count": 3.0, "limit": 3.0})
		if strings.Contains(written, "secret") != asked {
			t.Errorf("the line is %v", l)
		}
	}
}

func TestLevelsAndWhatIsExpectedAreTheUsers(t *testing.T) {
	j, _, db := newDB(slogscope.Levels(slog.LevelInfo, slog.LevelInfo, slog.LevelInfo, slog.LevelInfo),
		slogscope.Expected(func(err error) bool { return errors.Is(err, os.ErrNotExist) }))
	fail := func(with error) {
		check.Is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, drivertest.Exec(ctx, db, "a"))
			return with
		}), with)
	}
	fail(os.ErrNotExist)
	fail(errStop)
	has(t, j.one(t), line{"level": "INFO", "error": "stop"})
}
