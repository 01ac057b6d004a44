package pgxscope_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/wire"
)

// owned is a transaction of code that knows nothing of dbscope.
type owned struct {
	pgx.Tx
	ctx   context.Context
	ended func(context.Context, bool) error
	hooks []string
}

func (o *opened) adopt(t *testing.T, tx pgx.Tx) *owned {
	t.Helper()
	w := &owned{Tx: tx}
	var err error
	w.ctx, w.ended, err = o.Adopt(t.Context(), tx)
	ok(t, err)
	ok(t, o.AfterCommit(w.ctx, func(context.Context) error { w.hooks = append(w.hooks, "committed"); return nil }))
	ok(t, o.AfterRollback(w.ctx, func(context.Context) error { w.hooks = append(w.hooks, "rolled back"); return nil }))
	return w
}

func (w *owned) commit() (own, ended error) {
	own = w.Commit(context.Background())
	return own, w.ended(context.Background(), own == nil)
}

// onEachOwner runs a test on a DB, with what begins transactions on connections of
// its own pool, of a pool that nobody configured, of no pool, and wrapped in a type
// of the program's.
func onEachOwner(t *testing.T, test func(t *testing.T, d *opened, begin func() pgx.Tx, wired bool)) {
	d := open(t, pgx.QueryExecModeCacheStatement)
	of := func(begin func(context.Context) (pgx.Tx, error)) func() pgx.Tx {
		return func() pgx.Tx {
			tx, err := begin(t.Context())
			ok(t, err)
			return tx
		}
	}
	own, err := d.Pool(t.Context())
	ok(t, err)
	plain, err := pgxpool.New(t.Context(), d.dsn)
	ok(t, err)
	defer plain.Close()
	for name, c := range map[string]struct {
		begin func() pgx.Tx
		wired bool
	}{
		"its own pool": {of(own.Begin), true},
		"another pool": {of(plain.Begin), false},
		"a connection": {of(func(ctx context.Context) (pgx.Tx, error) { // one for each, since some are closed
			alone, err := pgx.Connect(ctx, d.dsn)
			ok(t, err)
			t.Cleanup(func() { _ = alone.Close(context.Background()) })
			return alone.Begin(ctx)
		}), false},
		"wrapped": {of(func(ctx context.Context) (pgx.Tx, error) {
			tx, err := own.Begin(ctx)
			return struct{ pgx.Tx }{tx}, err
		}), true},
	} {
		t.Run(name, func(t *testing.T) {
			pgtest.Shared(t).Query(t, d.dsn, "DELETE FROM t")
			test(t, d, c.begin, c.wired)
		})
	}
}

func TestWhateverPgxHasRunsInTheAdoptedTransaction(t *testing.T) {
	onEachOwner(t, func(t *testing.T, d *opened, begin func() pgx.Tx, _ bool) {
		w := d.adopt(t, begin())
		ok(t, insert(w.ctx, d, 1))
		handle, err := d.Session(w.ctx)
		ok(t, err)
		ok(t, insert(w.ctx, handle, 2))
		b := &pgx.Batch{}
		b.Queue("INSERT INTO t (id) VALUES ($1)", 3)
		b.Queue("INSERT INTO t (id) VALUES ($1)", 4)
		ok(t, d.SendBatch(w.ctx, b).Close())
		n, err := d.CopyFrom(w.ctx, pgx.Identifier{"t"}, []string{"id"}, pgx.CopyFromRows([][]any{{5}, {6}}))
		ok(t, err)
		want(t, "copied", []int{int(n)}, 2)
		_, err = handle.Prepare(w.ctx, "adopted_insert", "INSERT INTO t (id) VALUES ($1)")
		ok(t, err)
		_, err = handle.Exec(w.ctx, "adopted_insert", 7)
		ok(t, err)
		_, err = handle.Conn().Exec(w.ctx, "INSERT INTO t (id) VALUES (8)")
		ok(t, err)
		objects := handle.LargeObjects()
		oid, err := objects.Create(w.ctx, 0)
		ok(t, err)
		object, err := objects.Open(w.ctx, oid, pgx.LargeObjectModeWrite)
		ok(t, err)
		_, err = io.WriteString(object, "large")
		ok(t, err)
		nested, err := handle.Begin(w.ctx)
		ok(t, err)
		ok(t, insert(w.ctx, nested, 9))
		ok(t, nested.Rollback(w.ctx))
		var sum int
		ok(t, w.QueryRow(t.Context(), "SELECT sum(id) FROM t").Scan(&sum)) // its owner sees it all
		want(t, "inside", []int{sum}, 36)
		want(t, "outside", d.stored(t))
		own, ended := w.commit()
		ok(t, errors.Join(own, ended))
		want(t, "stored", d.stored(t), 1, 2, 3, 4, 5, 6, 7, 8)
	})
}

func TestTheSQLOfAnAdoptedTransactionIsRefusedByName(t *testing.T) {
	onEachOwner(t, func(t *testing.T, d *opened, begin func() pgx.Tx, _ bool) {
		w := d.adopt(t, begin())
		ok(t, insert(w.ctx, d, 1))
		_, err := d.SQL().ExecContext(w.ctx, "INSERT INTO t (id) VALUES (2)")
		is(t, err, dbscope.ErrOpenTransaction)
		if !strings.Contains(err.Error(), "SQL()") {
			t.Errorf("it says %v", err)
		}
		ok(t, insert(w.ctx, d, 3)) // which harms nothing
		own, ended := w.commit()
		ok(t, errors.Join(own, ended))
		want(t, "stored", d.stored(t), 1, 3)
	})
}

func TestATransactionNestedByPgxCannotBeAdopted(t *testing.T) {
	onEachOwner(t, func(t *testing.T, d *opened, begin func() pgx.Tx, _ bool) {
		tx := begin()
		nested, err := tx.Begin(t.Context())
		ok(t, err)
		inIt, err := nested.Begin(t.Context())
		ok(t, err)
		for _, one := range []pgx.Tx{nested, inIt, struct{ pgx.Tx }{nested}} {
			if _, _, err := d.Adopt(t.Context(), one); err == nil || !strings.Contains(err.Error(), "nested in another") {
				t.Errorf("it says %v", err)
			}
		}
		ok(t, tx.Rollback(t.Context()))
	})
}

func TestASavepointRidesWhereItsConnectionIsConfigured(t *testing.T) {
	dsn := createDatabase(t)
	proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", pgtest.Shared(t).Port()))
	d := openDSN(t, proxy.DSN(dsn), dsn, pgx.QueryExecModeExec)
	own, err := d.Pool(t.Context())
	ok(t, err)
	plain, err := pgxpool.New(t.Context(), proxy.DSN(dsn)+"&default_query_exec_mode=exec")
	if err != nil || !strings.Contains(dsn, "?") {
		plain, err = pgxpool.New(t.Context(), proxy.DSN(dsn)+"?default_query_exec_mode=exec")
	}
	ok(t, err)
	defer plain.Close()
	for trips, pool := range map[int]*pgxpool.Pool{2: own, 3: plain} {
		tx, err := pool.Begin(t.Context())
		ok(t, err)
		w := d.adopt(t, tx)
		proxy.Reset()
		ok(t, d.Atomic(w.ctx, func(ctx context.Context) error { return insert(ctx, d, trips) }))
		want(t, "round trips of SAVEPOINT, INSERT, RELEASE", []int{proxy.RoundTrips()}, trips)
		own, ended := w.commit()
		ok(t, errors.Join(own, ended))
	}
	want(t, "stored", d.stored(t), 2, 3)
}

func TestAnOwnerCannotMakeHalfOfADoomedUnitDurable(t *testing.T) {
	onEachOwner(t, func(t *testing.T, d *opened, begin func() pgx.Tx, _ bool) {
		for name, doom := range map[string]func(context.Context) error{
			"MarkRollback": dbscope.MarkRollback,
			"Join": func(ctx context.Context) error {
				_ = dbscope.Join(ctx, func(ctx context.Context) error { return errors.Join(insert(ctx, d, 2), errStop) })
				return nil
			},
			"a failed statement": func(ctx context.Context) error {
				if _, err := d.Exec(ctx, "INSERT INTO nowhere VALUES (1)"); err == nil {
					return errors.New("it did not fail")
				}
				return nil
			},
		} {
			w := d.adopt(t, begin())
			ok(t, insert(w.ctx, d, 1))
			inside, err := w.Begin(t.Context()) // a savepoint of its owner's
			ok(t, err)
			ok(t, doom(w.ctx))
			if inside.Rollback(t.Context()) == nil || insert(t.Context(), w, 3) == nil {
				t.Errorf("%s: the owner can go back to its savepoint, and on", name)
			}
			is(t, w.Commit(t.Context()), pgx.ErrTxCommitRollback)
			is(t, w.ended(t.Context(), true), dbscope.ErrRolledBack)
			want(t, "stored", d.stored(t))
		}
		// Rows that the owner has open keep pgx from sending anything.
		w := d.adopt(t, begin())
		ok(t, insert(w.ctx, d, 1))
		rows, err := w.Query(t.Context(), "SELECT generate_series(1, 10)")
		ok(t, err)
		rows.Next()
		ok(t, dbscope.MarkRollback(w.ctx))
		rows.Close()
		if w.Commit(t.Context()) == nil {
			t.Error("the owner could commit beside its rows")
		}
		is(t, w.ended(t.Context(), true), dbscope.ErrRolledBack)
		want(t, "stored", d.stored(t))
	})
}

// The connection is in the hands of others by then, who commit what they do.
func TestAStatementAfterTheOwnersEndDoesNotTouchTheConnectionOfOthers(t *testing.T) {
	dsn := createDatabase(t)
	d := openPool(t, dsn, dsn, func(config *pgxpool.Config) { config.MaxConns = 1 })
	pool, err := d.Pool(t.Context())
	ok(t, err)
	for i := range 50 {
		tx, err := pool.Begin(t.Context())
		ok(t, err)
		w := d.adopt(t, tx)
		ok(t, insert(w.ctx, d, 1))
		ok(t, tx.Rollback(t.Context()))
		var others sync.WaitGroup
		for other := range 2 {
			others.Go(func() {
				if other == 0 {
					_, err = pool.Exec(t.Context(), "SELECT 1")
				} else if err := dbscope.Run(t.Context(), func(ctx context.Context) error { return insert(ctx, d, 100+i) }); err != nil {
					t.Error(err)
				}
			})
		}
		late := []error{
			d.Atomic(w.ctx, func(ctx context.Context) error { return insert(ctx, d, 2) }), insert(w.ctx, d, 3), w.ended(t.Context(), false),
		}
		others.Wait()
		ok(t, err)
		if late[0] == nil || late[1] == nil || late[2] != nil {
			t.Errorf("late: %v", late)
		}
	}
	want(t, "stored by others", []int{len(d.stored(t)), d.stored(t)[0]}, 50, 100)
}

// The line of docs/adopt.md is what this test prints where it is missing.
func TestWhatTheOwnersCommitSaysIsInTheDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/adopt.md")
	ok(t, err)
	onEachOwner(t, func(t *testing.T, d *opened, begin func() pgx.Tx, _ bool) {
		w := d.adopt(t, begin())
		ok(t, insert(w.ctx, d, 1))
		ok(t, dbscope.MarkRollback(w.ctx))
		statement := insert(t.Context(), w, 2)
		own := w.Commit(t.Context())
		line := fmt.Sprintf("| PostgreSQL by pgxscope | `%v` | `%v` |", statement, own)
		if statement == nil || own == nil || !strings.Contains(string(page), line) {
			t.Errorf("docs/adopt.md has no line\n%s", line)
		}
		ok(t, w.ended(t.Context(), own == nil))
	})
}

func TestATextThatCommitsAnAdoptedTransactionLetsNothingFollow(t *testing.T) {
	onEachOwner(t, func(t *testing.T, d *opened, begin func() pgx.Tx, wired bool) {
		texts := []string{"commit"}
		if wired {
			texts = append(texts, "commit; begin") // nobody else can see that
		}
		for _, text := range texts {
			w := d.adopt(t, begin())
			ok(t, insert(w.ctx, d, 1))
			handle, err := d.Session(w.ctx)
			ok(t, err)
			_, err = handle.Conn().PgConn().Exec(t.Context(), text).ReadAll() // the scope does not see its text
			ok(t, err)
			if insert(w.ctx, d, 2) == nil || insert(t.Context(), w, 3) == nil {
				t.Errorf("%s: a statement followed it", text)
			}
			_ = w.Rollback(t.Context())
			is(t, w.ended(t.Context(), false), dbscope.ErrCommitUnknown)
			want(t, "stored", d.stored(t), 1)
			want(t, "hooks", []int{len(w.hooks)}, 0)
			pgtest.Shared(t).Query(t, d.dsn, "DELETE FROM t")
		}
	})
}

// A connection that is cut, at whatever moment, must not make a hook tell of what is
// not so.
func TestHooksOfAnAdoptedTransactionAreTrueThoughItsConnectionIsCut(t *testing.T) {
	dsn := createDatabase(t)
	proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", pgtest.Shared(t).Port()))
	d := openDSN(t, proxy.DSN(dsn), dsn, pgx.QueryExecModeCacheStatement)
	own, err := d.Pool(t.Context())
	ok(t, err)
	plain, err := pgxpool.New(t.Context(), proxy.DSN(dsn))
	ok(t, err)
	defer plain.Close()
	id := 0
	for name, pool := range map[string]*pgxpool.Pool{"its own pool": own, "another pool": plain} {
		cuts := proxy.CutEach([]string{"INSERT INTO t", "savepoint", "nowhere", "commit", "COMMIT"}, func() {
			d.cutUnit(t, pool, id)
			id += 10
		})
		if cuts < 20 {
			t.Errorf("%s: only %d connections were cut", name, cuts)
		}
	}
}

func (o *opened) cutUnit(t *testing.T, pool *pgxpool.Pool, id int) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		return
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	ctx, ended, err := o.Adopt(t.Context(), tx)
	if err != nil {
		return
	}
	said := ""
	ok(t, o.AfterCommit(ctx, func(context.Context) error { said = "committed"; return nil }))
	ok(t, o.AfterRollback(ctx, func(context.Context) error { said = "rolled back"; return nil }))
	did := errors.Join(insert(ctx, o, id+1), o.Atomic(ctx, func(ctx context.Context) error { return insert(ctx, o, id+2) }))
	_ = o.Atomic(ctx, func(ctx context.Context) error {
		_, err := o.Exec(ctx, "INSERT INTO nowhere VALUES (1)")
		return err
	})
	own := tx.Commit(t.Context())
	told := ended(t.Context(), own == nil)
	n := 0
	for _, s := range o.stored(t) {
		if s == id+1 || s == id+2 {
			n++
		}
	}
	switch {
	case n == 1, n == 2 && did != nil:
		t.Errorf("half of it is stored, %d rows, after %v", n, did)
	case said == "committed" && n < 2, said == "committed" && told != nil, said == "rolled back" && own == nil && n > 0:
		t.Errorf("the hook says %s of %d rows; its owner %v, and ended %v", said, n, own, told)
	}
}
