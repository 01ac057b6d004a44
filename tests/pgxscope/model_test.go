package pgxscope_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

// DBSCOPE_LONG=1 runs many sequences; DBSCOPE_MODEL=SEED/NUMBER runs one again,
// as a failure prints it.
const (
	longVariable  = "DBSCOPE_LONG"
	againVariable = "DBSCOPE_MODEL"
)

func TestRandomUnitsOfWorkStoreExactlyTheRowsThatTheModelSays(t *testing.T) {
	seed, first, last := rand.Uint64(), 0, 4_000
	if os.Getenv(longVariable) != "" {
		last = 100_000
	}
	workers := 2 * runtime.GOMAXPROCS(0)
	if again := os.Getenv(againVariable); again != "" {
		if _, err := fmt.Sscanf(again, "%d/%d", &seed, &first); err != nil {
			t.Fatalf("%s=%s: want SEED/NUMBER: %v", againVariable, again, err)
		}
		last, workers = first+1, 1
	}
	m := &modelRun{seed: seed, dsn: pgtest.Shared(t).CreateDatabase(t), again: workers == 1}
	var create strings.Builder
	for worker := range workers {
		for i := range modes {
			table := tableOf(worker, i)
			fmt.Fprintf(&create, "CREATE TABLE %[1]s (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES %[1]s (id) DEFERRABLE INITIALLY DEFERRED); "+
				"INSERT INTO %[1]s (id) VALUES (0); ", table)
		}
	}
	pgtest.Shared(t).Query(t, m.dsn, create.String())

	start := time.Now()
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			if err := m.work(t.Context(), worker, first, last, workers); err != nil {
				m.failed.Store(true)
				t.Error(err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d sequences of seed %d in %v: %d transactions committed, %d rolled back, %d unknown; %d statements stored, %d failed",
		m.sequences.Load(), seed, time.Since(start).Round(time.Millisecond),
		m.committed.Load(), m.rolledBack.Load(), m.unknown.Load(), m.succeeded.Load(), m.refused.Load())
}

func tableOf(worker, mode int) string { return fmt.Sprintf("t_%d_%d", worker, mode) }

// modelRun is what the workers share.
type modelRun struct {
	dsn   string
	seed  uint64
	again bool // one sequence, on a connection that is new, and used

	failed                                                               atomic.Bool
	sequences, committed, rolledBack, unknown, succeeded, refused, nextID atomic.Int64
}

// work runs every workers-th sequence.
func (m *modelRun) work(ctx context.Context, worker, first, last, workers int) (err error) {
	checker, err := pgx.Connect(ctx, m.dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, checker.Close(context.WithoutCancel(ctx))) }()
	sites := make([]*site, len(modes))
	for i, mode := range modes {
		sites[i] = newSite(m.dsn, mode, tableOf(worker, i), checker)
		defer func() { err = errors.Join(err, sites[i].db.Close()) }()
	}
	for number := first + worker; number < last && !m.failed.Load(); number += workers {
		s := newSequence(m.seed, number)
		times := 1
		if m.again {
			times = 3
		}
		for range times {
			if err := m.try(ctx, sites[s.mode], s); err != nil {
				return fmt.Errorf("%w\nagain: %s=%d/%d (the connection was used before by sequence %d)",
					err, againVariable, m.seed, number, sites[s.mode].previous)
			}
		}
		sites[s.mode].previous = number
	}
	return nil
}

// site is one worker's database in one mode. Its pool has one connection, so
// that one that is not given back is noticed.
type site struct {
	db       *pgxscope.DB
	table    string
	checker  *pgx.Conn
	previous int

	latest atomic.Pointer[pgx.Conn]
}

func newSite(dsn string, mode pgx.QueryExecMode, table string, checker *pgx.Conn) *site {
	s := &site{table: table, checker: checker, previous: -1}
	s.db = pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
		config, err := pgxpool.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		config.MaxConns = 1
		config.ConnConfig.DefaultQueryExecMode = mode
		config.ConnConfig.RuntimeParams["synchronous_commit"] = "off" // nobody kills the server here
		config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, address)
			return &deafConn{Conn: c}, err
		}
		config.AfterConnect = func(_ context.Context, c *pgx.Conn) error { s.latest.Store(c); return nil }
		return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	}, dbscope.Name("test"))
	return s
}

// deafConn is a connection that can stop to hear the server's answers, while
// what it says still arrives.
type deafConn struct {
	net.Conn
	deaf atomic.Bool
}

func (c *deafConn) Read(b []byte) (int, error) {
	if c.deaf.Load() {
		return 0, io.EOF
	}
	return c.Conn.Read(b)
}

// act is what a step does.
type act int

const (
	runStatement act = iota
	runOnEndedHandle
	beginNested
	commitNested
	rollBackNested
	commitDB
	rollBackDB
	releaseDB
	commitHandle
	rollBackHandle
	markRollback
	terminate     // the server ends the connection, between two statements
	terminateSelf // the server ends it in the middle of a statement
	hangUp        // the client's end of the connection is closed
	goDeaf        // answers no longer arrive
)

var acts = [...]string{
	"statement", "statement on a handle that is over", "begin nested", "commit nested", "roll back nested",
	"DB.Commit", "DB.Rollback", "DB.Release", "Commit of the handle", "Rollback of the handle", "MarkRollback",
	"the server ends the connection", "the server ends the connection during a statement",
	"the client's end of the connection is closed", "answers no longer arrive",
}

// fault is how a statement fails.
type fault int

const (
	sound     fault = iota
	toPrepare       // its table does not exist
	toExecute       // its id is stored already
	toCommit        // its parent does not exist, which the commit finds out
)

var faults = [...]string{"", ", fails to prepare", ", fails to execute", ", fails the commit"}

type step struct {
	act     act
	kind    string // of statement
	fault   fault
	back    int  // how many nested transactions further out than the innermost
	returns bool // an error ends the unit, else it is ignored
}

func (s step) String() string {
	text := acts[s.act]
	if s.act == runStatement {
		text = s.kind + faults[s.fault]
	}
	if s.back > 0 && (s.act == commitNested || s.act == rollBackNested) {
		text += fmt.Sprintf(" (%d further out)", s.back)
	}
	if s.returns {
		text += "; returns an error"
	}
	return text
}

// ending is how a unit ends, unless a step's error ends it.
type ending int

const (
	returnNil ending = iota
	returnError
	panics
	releaseScope
	commitScope
)

var endings = [...]string{"return nil", "return an error", "panic", "Release of the scope", "Commit of the scope"}

type sequence struct {
	number  int
	mode    int
	fresh   bool // on a new connection
	network bool // the connection will break
	steps   []step
	ending  ending
}

// The kinds of statement besides those of the other tests.
const (
	onHandle  = "Exec on the handle"
	sqlNested = "SQL, nested"
)

var kinds = append(slices.Sorted(maps.Keys(statements)), onHandle, sqlNested)

func newSequence(seed uint64, number int) *sequence {
	r := rand.New(rand.NewPCG(seed, uint64(number)))
	s := &sequence{number: number, mode: r.IntN(len(modes)), fresh: r.IntN(20) == 0, network: r.IntN(50) == 0}
	// Most units end by returning nil: the others make no difference to find.
	s.ending = pick(r, [...]int{returnNil: 70, returnError: 8, panics: 4, releaseScope: 8, commitScope: 10})
	for range 1 + r.IntN(8) {
		st := step{act: pick(r, [...]act{
			runStatement: 60, runOnEndedHandle: 2, beginNested: 10, commitNested: 7, rollBackNested: 6,
			commitDB: 4, rollBackDB: 2, releaseDB: 3, commitHandle: 3, rollBackHandle: 2, markRollback: 1,
		}), kind: kinds[r.IntN(len(kinds))], returns: r.IntN(3) == 0}
		st.fault = pick(r, [...]int{sound: 76, toPrepare: 11, toExecute: 10, toCommit: 3})
		if st.act == runStatement && st.fault == toCommit {
			st.kind = "Exec"
		}
		if r.IntN(5) == 0 {
			st.back = 1
		}
		s.steps = append(s.steps, st)
	}
	if s.network {
		breaks := [...]act{terminate, terminateSelf, hangUp, goDeaf}
		s.steps = slices.Insert(s.steps, r.IntN(len(s.steps)+1), step{act: breaks[r.IntN(len(breaks))]})
	}
	return s
}
