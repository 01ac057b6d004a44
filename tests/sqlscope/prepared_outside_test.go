package sqlscope_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"weak"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/scopetest"
)

// preparers are the ways to prepare a statement for use in any scope, or in none.
func (d *opened) preparers() map[string]func(context.Context, string) (*sql.Stmt, error) {
	return map[string]func(context.Context, string) (*sql.Stmt, error){
		"the DB": d.PrepareContext, "SQL()": d.SQL().PrepareContext,
	}
}

const (
	insertID = "INSERT INTO t (id) VALUES ($1)"
	listIDs  = "SELECT id FROM t WHERE id >= $1 ORDER BY id"
)

func TestAStatementOutsideOfScopesIsPreparedOnceAndClosedWithTheLastUse(t *testing.T) {
	onEachFaulty(t, func(t *testing.T, d *opened, f *faults) {
		d.leaveOne(t)
		for way, prepare := range d.preparers() {
			prepared, closed := f.count("PREPARE "+insertID), f.count("CLOSE "+insertID)
			store, err := prepare(t.Context(), insertID)
			ok(t, err)
			list, err := prepare(t.Context(), listIDs)
			ok(t, err)
			for i := range 5 {
				_, err := store.ExecContext(t.Context(), i)
				ok(t, err)
				rows, err := list.QueryContext(t.Context(), i)
				ok(t, err)
				want(t, "seen", scan(t, rows), i)
				ok(t, list.QueryRowContext(t.Context(), 0).Scan(new(int)))
			}
			if n := f.count("PREPARE "+insertID) - prepared; n != 1 {
				t.Errorf("%s: it was prepared %d times", way, n)
			}
			if n := f.count("CLOSE "+insertID) - closed; n != 0 {
				t.Errorf("%s: it was closed %d times", way, n)
			}
			if n := d.inUse(t); n != 0 {
				t.Errorf("%s: %d connections are in use", way, n)
			}
			ok(t, errors.Join(store.Close(), list.Close()))
			if n := f.count("CLOSE "+insertID) - closed; n != 1 {
				t.Errorf("%s: at the end it was closed %d times", way, n)
			}
			want(t, "stored", d.stored(t), 0, 1, 2, 3, 4)
			_, err = d.other.Exec("DELETE FROM t")
			ok(t, err)
		}
	}, dbscope.AllowUnscoped())
}

func TestServersKeepStatementsFromOneUseOutsideOfScopesToTheNext(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		if !d.postgres {
			t.Skip("it does not tell")
		}
		d.leaveOne(t)
		for way, prepare := range d.preparers() {
			store, err := prepare(t.Context(), insertID)
			ok(t, err)
			for i := range 3 {
				_, err := store.ExecContext(t.Context(), i)
				ok(t, err)
				if n, _ := d.prepared(t.Context(), t); n != 1 {
					t.Errorf("%s: %d statements are prepared", way, n)
				}
			}
			ok(t, store.Close())
			if n, _ := d.prepared(t.Context(), t); n != 0 && !d.native { // pgx has a cache
				t.Errorf("%s: %d statements are prepared at the end", way, n)
			}
			_, err = d.other.Exec("DELETE FROM t")
			ok(t, err)
		}
	}, dbscope.AllowUnscoped())
}

// All that a caller can see is as it is on the pool itself.
func TestAStatementOutsideOfScopesAnswersAsOnAPlainPool(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		text, bytes := "TEXT", "X'00ff'"
		switch {
		case d.postgres:
			bytes = "'\\x00ff'::bytea"
		case d.ofMySQL:
			text = "CHAR"
		}
		queries := map[string][]any{
			"SELECT 1, 2.5, NULL, 'text', " + bytes + ", CURRENT_TIMESTAMP > CURRENT_TIMESTAMP": nil,
			"SELECT CAST($1 AS " + text + ")":                        {"text"},
			"SELECT id FROM t WHERE id > 99":                         nil,
			"SELECT id FROM t":                                       {1},
			"SELECT id FROM t WHERE id = $1":                         {1, 2},
			"SELECT id FROM t WHERE id + 0 = $1":                     {struct{}{}},
			"SELECT nonsense FROM nowhere":                           nil,
			"INSERT INTO t (id) VALUES (1)":                          nil,
			"SELECT id FROM t UNION ALL SELECT 2 UNION ALL SELECT 3": nil,
		}
		ok(t, insert(t.Context(), d, 1))
		for way, prepare := range d.preparers() {
			for query, args := range queries {
				plain, wrong := d.other.PrepareContext(t.Context(), query)
				ours, err := prepare(t.Context(), query)
				ok(t, err) // outside it is checked with the first use
				if wrong != nil {
					_, err := ours.QueryContext(t.Context(), args...) //nolint:rowserrcheck,sqlclosecheck // there are none
					sameError(t, way+": "+query, wrong, err)
					ok(t, ours.Close())
					continue
				}
				for range 2 {
					hand, handErr := answer(plain.QueryContext(t.Context(), args...)) //nolint:rowserrcheck,sqlclosecheck // answer does
					got, gotErr := answer(ours.QueryContext(t.Context(), args...))    //nolint:rowserrcheck,sqlclosecheck // as above
					sameError(t, way+": "+query, handErr, gotErr)
					if hand != got {
						t.Errorf("%s: %s: the pool says\n%s\nand the DB\n%s", way, query, hand, got)
					}
				}
				ok(t, errors.Join(plain.Close(), ours.Close()))
			}
		}
	}, dbscope.AllowUnscoped())
}

func sameError(t *testing.T, what string, hand, got error) {
	t.Helper()
	if (hand == nil) != (got == nil) || hand != nil && reflect.TypeOf(hand) != reflect.TypeOf(got) && hand.Error() != got.Error() {
		t.Errorf("%s: the pool's error is %T %v, the DB's %T %v", what, hand, hand, got, got)
	}
}

// answer describes all that rows tell.
func answer(rows *sql.Rows, err error) (string, error) {
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for more := true; more; more = rows.NextResultSet() {
		types, err := rows.ColumnTypes()
		if err != nil {
			return "", errors.Join(err, rows.Close())
		}
		for _, c := range types {
			length, bounded := c.Length()
			nullable, told := c.Nullable()
			precision, scale, is := c.DecimalSize()
			fmt.Fprintln(&b, c.Name(), c.DatabaseTypeName(), c.ScanType(), length, bounded, nullable, told, precision, scale, is)
		}
		values, targets := make([]any, len(types)), make([]any, len(types))
		for i := range values {
			targets[i] = &values[i]
		}
		for rows.Next() {
			if err := rows.Scan(targets...); err != nil {
				return "", errors.Join(err, rows.Close())
			}
			fmt.Fprintf(&b, "%#v\n", values)
		}
	}
	return b.String(), errors.Join(rows.Err(), rows.Close())
}

func TestRowsOfAStatementOutsideOfScopesEndWithTheirContext(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		for way, prepare := range d.preparers() {
			list, err := prepare(t.Context(), "SELECT 1 UNION ALL SELECT 2")
			ok(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			rows, err := list.QueryContext(ctx)
			ok(t, err)
			rows.Next()
			cancel()
			for rows.Next() {
			}
			is(t, errors.Join(rows.Err(), context.Canceled), context.Canceled)
			ok(t, rows.Close())
			_, err = list.QueryContext(ctx) //nolint:rowserrcheck,sqlclosecheck // there are none
			is(t, err, context.Canceled)
			for range 2 {
				ok(t, list.QueryRowContext(t.Context()).Scan(new(int)))
			}
			ok(t, list.Close())
			if n := d.inUse(t); n != 0 {
				t.Errorf("%s: %d connections are in use", way, n)
			}
		}
	}, dbscope.AllowUnscoped())
}

// Also by many at once, in scopes and outside, with Execs in scopes for which
// connections of SQL() are let go.
func TestAStatementIsUsedInScopesAndOutsideByMany(t *testing.T) {
	onEachFaulty(t, func(t *testing.T, d *opened, f *faults) {
		if d.driver == "sqlite" {
			d.leaveOne(t) // it has one writer
		}
		for way, prepare := range d.preparers() {
			store, err := prepare(t.Context(), insertID)
			ok(t, err)
			list, err := prepare(t.Context(), listIDs)
			ok(t, err)
			var wg sync.WaitGroup
			const workers, rounds = 4, 10
			for w := range workers {
				wg.Go(func() {
					for i := range rounds {
						id := 100*w + 2*i
						_, err := store.ExecContext(t.Context(), id)
						if err != nil {
							t.Error(err)
						}
						rolledBack := dbscope.Run(t.Context(), func(ctx context.Context) error {
							_, err := store.ExecContext(ctx, id+1)
							if err == nil {
								err = list.QueryRowContext(ctx, id+1).Scan(new(int))
							}
							return errors.Join(err, errStop)
						})
						if rolledBack.Error() != errStop.Error() {
							t.Error(rolledBack)
						}
						var got int
						if err := list.QueryRowContext(t.Context(), id).Scan(&got); err != nil || got != id {
							t.Errorf("%d is seen, not %d: %v", got, id, err)
						}
					}
				})
			}
			wg.Wait()
			ok(t, errors.Join(store.Close(), list.Close()))
			if n := len(d.stored(t)); n != workers*rounds {
				t.Errorf("%s: %d are stored", way, n)
			}
			if n := d.inUse(t); n != 0 {
				t.Errorf("%s: %d connections are in use", way, n)
			}
			if opened, closed := f.count("PREPARE "+insertID), f.count("CLOSE "+insertID); opened != closed {
				t.Errorf("%s: it was prepared %d times and closed %d times", way, opened, closed)
			}
			_, err = d.other.Exec("DELETE FROM t")
			ok(t, err)
		}
	}, dbscope.AllowUnscoped())
}

// database/sql executes a statement again whose driver says that it was not sent. That
// must not happen once for each layer.
func TestAStatementOutsideOfScopesIsTriedAsOftenAsOnAPlainPool(t *testing.T) {
	onEachFaulty(t, func(t *testing.T, d *opened, f *faults) {
		pool, err := d.scoped.(overSQL).Engine(t.Context())
		ok(t, err)
		ok(t, insert(t.Context(), d, 0)) // so that all is known of the database
		plain, err := pool.PrepareContext(t.Context(), "INSERT INTO t (id) SELECT 1 WHERE 1 = 0")
		ok(t, err)
		for way, prepare := range d.preparers() {
			ours, err := prepare(t.Context(), "INSERT INTO t (id) SELECT 2 WHERE 1 = 0")
			ok(t, err)
			for _, s := range []*sql.Stmt{plain, ours} {
				_, err := s.ExecContext(t.Context())
				ok(t, err)
				f.once("INSERT", sqldriver.ErrBadConn)
				_, err = s.ExecContext(t.Context())
				ok(t, err) // as it was not sent
			}
			tries := map[*sql.Stmt]int{}
			for _, s := range []*sql.Stmt{plain, ours} {
				_, err := s.ExecContext(t.Context())
				ok(t, err)
				f.at("INSERT", nil, sqldriver.ErrBadConn)
				before := f.count("INSERT")
				if _, err := s.ExecContext(t.Context()); err == nil {
					t.Errorf("%s: it succeeded", way)
				}
				tries[s] = f.count("INSERT") - before
				f.skip("")
			}
			if tries[plain] != tries[ours] {
				t.Errorf("%s: the pool tries %d times, the DB %d", way, tries[plain], tries[ours])
			}
			ok(t, ours.Close())
		}
		ok(t, plain.Close())
	}, dbscope.AllowUnscoped())
}

func TestAStatementOutsideOfScopesOutlivesTheConnectionsItWasPreparedOn(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		if d.driver == "sqlite" {
			t.Skip("nobody can end its connections")
		}
		for way, prepare := range d.preparers() {
			list, err := prepare(t.Context(), listIDs)
			ok(t, err)
			for range 3 {
				ok(t, read(list.QueryContext(t.Context(), 1)))
				ok(t, d.killAll(t))
				var last error
				for range 10 { // a driver may find out with the first statement only
					if last = read(list.QueryContext(t.Context(), 1)); last == nil {
						break
					}
				}
				if last != nil {
					t.Errorf("%s: %v", way, last)
				}
			}
			ok(t, list.Close())
		}
	}, dbscope.AllowUnscoped())
}

func TestAStatementOutsideOfScopesGoesWithTheHost(t *testing.T) {
	dir := t.TempDir()
	db := sqlscope.New(func(_ context.Context, host string) (*sql.DB, error) {
		return sql.Open("sqlite", "file:"+filepath.Join(dir, host))
	}, dbscope.Host("a"), dbscope.AllowUnscoped())
	for _, host := range []string{"b", "a"} {
		ok(t, db.SwitchHost(t.Context(), host))
		_, err := db.ExecContext(t.Context(), "CREATE TABLE names (name TEXT)")
		ok(t, err)
		_, err = db.ExecContext(t.Context(), "INSERT INTO names (name) VALUES ($1)", host)
		ok(t, err)
	}
	for _, prepare := range []func(context.Context, string) (*sql.Stmt, error){db.PrepareContext, db.SQL().PrepareContext} {
		name, err := prepare(t.Context(), "SELECT name FROM names")
		ok(t, err)
		kept, err := db.SQL().Conn(t.Context())
		ok(t, err)
		for _, host := range []string{"a", "b", "a", "b"} {
			ok(t, db.SwitchHost(t.Context(), host))
			var got, before string
			for range 2 {
				ok(t, name.QueryRowContext(t.Context()).Scan(&got))
				equal(t, "host", []string{got}, host)
			}
			ok(t, kept.QueryRowContext(t.Context(), "SELECT name FROM names").Scan(&before))
			equal(t, "the host of a connection that is kept", []string{before}, "a")
		}
		ok(t, errors.Join(kept.Close(), name.Close()))
		ok(t, db.SwitchHost(t.Context(), "a"))
	}
	ok(t, db.Close())
}

func TestAStatementOfAFixtureIsInTheTestsTransaction(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		for way, prepare := range d.preparers() {
			store, err := prepare(t.Context(), insertID)
			ok(t, err)
			_, err = store.ExecContext(t.Context(), 1)
			ok(t, err)
			if d.driver == "sqlite" { // a test locks the whole database
				_, err = d.other.Exec("DELETE FROM t")
				ok(t, err)
			}
			t.Run(way, func(t *testing.T) {
				ctx := scopetest.Rollback(t, d.database1())
				for i := range 3 {
					_, err = store.ExecContext(scopetest.Fixture(ctx), 10+i)
					ok(t, err)
				}
				ok(t, dbscope.Run(ctx, func(ctx context.Context) error {
					_, err := store.ExecContext(ctx, 20)
					return err
				}))
			})
			_, err = d.other.Exec("DELETE FROM t WHERE id = 1")
			ok(t, err)
			want(t, "stored", d.stored(t))
			ok(t, store.Close())
		}
	}, dbscope.AllowUnscoped())
}

// database1 is the DB itself.
func (d *opened) database1() dbscope.Database {
	switch s := d.scoped.(type) {
	case overSQL:
		return s.DB
	case overPgx:
		return s.DB
	}
	return nil
}

func TestAConnectionIsResetAlsoAfterAStatementPreparedOutsideOfScopes(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		if !d.postgres {
			t.Skip("it is closed instead")
		}
		for way, prepare := range d.preparers() {
			set, err := prepare(t.Context(), "SELECT set_config('application_name', 'mine', false)")
			ok(t, err)
			for range 3 {
				ok(t, set.QueryRowContext(t.Context()).Scan(new(string)))
				if d.marked(t.Context(), t, d) {
					t.Errorf("%s: it was not reset", way)
				}
			}
			ok(t, set.Close())
		}
	}, dbscope.AllowUnscoped(), dbscope.ResetConnections())
}

func TestNothingOfAContextIsKeptByAStatementOutsideOfScopes(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		d.leaveOne(t)
		for way, prepare := range d.preparers() {
			list, err := prepare(t.Context(), listIDs)
			ok(t, err)
			ok(t, read(list.QueryContext(t.Context(), 1))) // drivers keep the one of the connection's beginning
			var carried []weak.Pointer[request]
			for range 4 {
				r := &request{}
				carried = append(carried, weak.Make(r))
				ctx := context.WithValue(t.Context(), requestKey{}, r)
				ok(t, read(list.QueryContext(ctx, 1)))
				pinned, err := d.SQL().Conn(ctx)
				ok(t, err)
				ok(t, read(pinned.QueryContext(ctx, "SELECT 1")))
				ok(t, pinned.Close())
			}
			ok(t, read(list.QueryContext(t.Context(), 1))) // drivers keep the last one
			runtime.GC()
			if n := kept(carried); n > 0 {
				t.Errorf("%s: %d contexts are kept", way, n)
			}
			ok(t, list.Close())
		}
	}, dbscope.AllowUnscoped())
}

func TestAConnectionOfPgxscopeKeepsNoMoreStatementsThanPgxWould(t *testing.T) {
	d := databases["PostgreSQL by pgxscope"]
	for mode, most := range map[string]int{"cache_statement": 3, "exec": 0} {
		in := d
		in.dsn = func(t *testing.T) string {
			return d.dsn(t) + "&statement_cache_capacity=3&default_query_exec_mode=" + mode
		}
		d := open(t, in, dbscope.AllowUnscoped())
		d.leaveOne(t)
		for round := range 3 {
			var all []*sql.Stmt
			for i := range 7 {
				s, err := d.PrepareContext(t.Context(), fmt.Sprintf("INSERT INTO t (id) SELECT %d WHERE $1 = 0", i))
				ok(t, err)
				all = append(all, s)
			}
			for range 3 {
				for i, s := range all {
					_, err := s.ExecContext(t.Context(), 1)
					ok(t, err)
					if n, _ := d.prepared(t.Context(), t); n > most {
						t.Errorf("%s, round %d, statement %d: %d are prepared", mode, round, i, n)
					}
				}
			}
			for _, s := range all {
				ok(t, s.Close())
			}
		}
		if n, _ := d.prepared(t.Context(), t); n != most {
			t.Errorf("%s: %d are prepared", mode, n)
		}
	}
}

// The plan of a statement that stays prepared goes with the first failure.
func TestAStatementOutsideOfScopesWorksAgainAfterItsTableWasAltered(t *testing.T) {
	d := open(t, databases["PostgreSQL by pgxscope"], dbscope.AllowUnscoped())
	d.leaveOne(t)
	all, err := d.PrepareContext(t.Context(), "SELECT * FROM t")
	ok(t, err)
	ok(t, read(all.QueryContext(t.Context())))
	_, err = d.other.Exec("ALTER TABLE t ADD name TEXT")
	ok(t, err)
	if err := read(all.QueryContext(t.Context())); err == nil {
		t.Error("it was not prepared before")
	}
	ok(t, read(all.QueryContext(t.Context())))
	ok(t, all.Close())
}
