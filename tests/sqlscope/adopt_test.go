package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
	"github.com/dbscope/dbscope/tests/wire"
)

// owned is a transaction of code that knows nothing of dbscope.
type owned struct {
	*sql.Tx
	ctx   context.Context
	ended func(context.Context, bool) error
	hooks []string
}

func (o *opened) adopt(t *testing.T, pool *sql.DB) *owned {
	t.Helper()
	tx, err := pool.BeginTx(t.Context(), nil)
	ok(t, err)
	w := &owned{Tx: tx}
	w.ctx, w.ended, err = o.scoped.(overSQL).Adopt(t.Context(), tx)
	ok(t, err)
	for name, on := range map[string]func(context.Context, func(context.Context) error) error{
		"committed": o.AfterCommit, "rolled back": o.AfterRollback,
	} {
		ok(t, on(w.ctx, func(context.Context) error { w.hooks = append(w.hooks, name); return nil }))
	}
	return w
}

func (w *owned) commit() (own, ended error) {
	own = w.Commit()
	return own, w.ended(context.Background(), own == nil)
}

// onEachAdopted runs a test on each database of which a *sql.Tx can be adopted, on
// the DB's own pool and on one that it knows nothing of.
func onEachAdopted(t *testing.T, test func(t *testing.T, d *opened, pool *sql.DB)) {
	for name, d := range bySqlscope() {
		t.Run(name, func(t *testing.T) {
			o := open(t, d)
			own, err := o.scoped.(overSQL).Engine(t.Context())
			ok(t, err)
			for which, pool := range map[string]*sql.DB{"its own pool": own, "another pool": o.other} {
				t.Run(which, func(t *testing.T) {
					_, err := o.other.Exec("DELETE FROM t")
					ok(t, err)
					test(t, o, pool)
				})
			}
		})
	}
}

func TestAllWaysToTheSessionRunInTheAdoptedTransaction(t *testing.T) {
	onEachAdopted(t, func(t *testing.T, d *opened, pool *sql.DB) {
		prepared, err := d.PrepareContext(t.Context(), "INSERT INTO t (id) VALUES ($1)")
		ok(t, err)
		for _, commits := range []bool{true, false} {
			w := d.adopt(t, pool)
			ok(t, insert(w.ctx, d, 1))
			handle, err := d.handle(w.ctx)
			ok(t, err)
			ok(t, insert(w.ctx, handle, 2))
			ok(t, insert(w.ctx, d.SQL(), 3))
			_, err = prepared.ExecContext(w.ctx, 4)
			ok(t, err)
			here, err := d.SQL().PrepareContext(w.ctx, "INSERT INTO t (id) VALUES ($1)")
			ok(t, err)
			_, err = here.ExecContext(w.ctx, 5)
			ok(t, err)
			ok(t, here.Close())
			nested, err := d.SQL().BeginTx(w.ctx, nil)
			ok(t, err)
			ok(t, insert(w.ctx, nested, 6))
			ok(t, nested.Rollback())
			joining, err := d.SQL(sqlscope.JoinBegin()).BeginTx(w.ctx, nil)
			ok(t, err)
			ok(t, insert(w.ctx, joining, 7))
			ok(t, joining.Commit())
			rows, err := w.Query("SELECT id FROM t ORDER BY id") // its owner sees it all
			ok(t, err)
			want(t, "inside", scan(t, rows), 1, 2, 3, 4, 5, 7)
			want(t, "outside", d.stored(t))
			if commits {
				own, ended := w.commit()
				ok(t, errors.Join(own, ended))
				equal(t, "hooks", w.hooks, "committed")
				want(t, "stored", d.stored(t), 1, 2, 3, 4, 5, 7)
				_, err := d.other.Exec("DELETE FROM t")
				ok(t, err)
			} else {
				ok(t, errors.Join(w.Rollback(), w.ended(t.Context(), false)))
				equal(t, "hooks", w.hooks, "rolled back")
				want(t, "stored", d.stored(t))
			}
		}
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			_, err := prepared.ExecContext(ctx, 8) // what it was prepared on is no more
			return err
		}))
		want(t, "stored", d.stored(t), 8)
		ok(t, prepared.Close())
	})
}

// What its owner would get, the scope gets: values, columns with their types, errors.
func TestNothingIsChangedOnTheWayToAnAdoptedTransaction(t *testing.T) {
	onEachAdopted(t, func(t *testing.T, d *opened, pool *sql.DB) {
		at := time.Date(2024, 2, 29, 12, 30, 15, 0, time.UTC)
		queries := map[string][]any{
			"SELECT 1 AS one, 'two' AS two, NULL AS three, 4.5 AS four": nil,
			"SELECT id, parent FROM t WHERE id = $1":                    {1},
			"SELECT id FROM t WHERE 1 = 0":                              nil,
			"SELECT id FROM nowhere":                                    nil,
			"SELECT id FROM t WHERE id = $1":                            {struct{}{}},
			"SELECT 1, 2 WHERE 3 = $1 OR 1 = 1":                         {3},
		}
		switch {
		case d.postgres:
			queries["SELECT $1::text, $2::bytea, $3::timestamptz, $4::bool, $5::numeric"] = []any{"a\x01é", []byte{0, 1, 255}, at, true, "12.50"}
			if d.driver == "postgres" {
				queries["SELECT id FROM t WHERE id = ANY($1)"] = []any{pq.Array([]int64{1, 2})}
			} else {
				queries["SELECT id FROM t WHERE id = ANY($1)"] = []any{[]int64{1, 2}} // which only pgx knows
			}
		case d.ofMySQL:
			queries["SELECT $1, $2, $3, CAST(1.50 AS DECIMAL(10,2)), X'00FF'"] = []any{"a", []byte{0, 1, 255}, at}
		default:
			queries["SELECT $1, $2, $3, x'00FF', :named"] = []any{"a", []byte{0, 1, 255}, 1.5, sql.Named("named", 7)}
		}
		ok(t, insert(t.Context(), d.other, 1))
		for query, args := range queries {
			inOne := func(way func(ctx context.Context, tx *sql.Tx) string) string {
				w := d.adopt(t, pool)
				defer func() { ok(t, errors.Join(ignoreDone(w.Rollback()), w.ended(t.Context(), false))) }()
				return way(w.ctx, w.Tx)
			}
			asked := func(q querier) func(context.Context, *sql.Tx) string {
				return func(ctx context.Context, _ *sql.Tx) string { return everything(q.QueryContext(ctx, query, args...)) }
			}
			byPrepared := func(ctx context.Context, on preparer) string {
				st, err := on.PrepareContext(ctx, query)
				if err != nil {
					return fmt.Sprintf("Error %T %v", err, err)
				}
				defer func() { _ = st.Close() }()
				return everything(st.QueryContext(ctx, args...))
			}
			owners := inOne(func(ctx context.Context, tx *sql.Tx) string { return asked(tx)(ctx, tx) })
			equal(t, query+" by the DB and by SQL", []string{inOne(asked(d)), inOne(asked(d.SQL()))}, owners, owners)
			owners = inOne(func(ctx context.Context, tx *sql.Tx) string { return byPrepared(ctx, tx) })
			equal(t, query+" prepared", []string{inOne(func(ctx context.Context, _ *sql.Tx) string { return byPrepared(ctx, d) })}, owners)
		}
	})
}

// ignoreDone leaves out the error of a transaction that PreventCommit has ended.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// everything tells of rows all that database/sql tells.
func everything(rows *sql.Rows, err error) string {
	if err != nil {
		return fmt.Sprintf("Error %T %v", err, err)
	}
	defer func() { _ = rows.Close() }()
	var all strings.Builder
	columns, _ := rows.ColumnTypes()
	for _, c := range columns {
		length, hasLength := c.Length()
		nullable, knows := c.Nullable()
		precision, scale, decimal := c.DecimalSize()
		fmt.Fprintln(&all, c.Name(), c.DatabaseTypeName(), c.ScanType(), length, hasLength, nullable, knows, precision, scale, decimal)
	}
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			return err.Error()
		}
		for _, v := range values {
			v := reflect.ValueOf(v).Elem().Interface()
			if at, is := v.(time.Time); is {
				v = at.UTC()
			}
			fmt.Fprintf(&all, "%T %v; ", v, v)
		}
	}
	fmt.Fprintf(&all, "%T %v", rows.Err(), rows.Err())
	return all.String()
}

func TestAnOwnerCannotMakeHalfOfADoomedUnitDurable(t *testing.T) {
	onEachAdopted(t, func(t *testing.T, d *opened, pool *sql.DB) {
		dooms := map[string]func(context.Context) error{
			"MarkRollback": dbscope.MarkRollback,
			"Join": func(ctx context.Context) error {
				_ = dbscope.Join(ctx, func(ctx context.Context) error { return errors.Join(insert(ctx, d, 2), errStop) })
				return nil
			},
		}
		if d.postgres {
			dooms["a failed statement"] = func(ctx context.Context) error {
				_, err := d.ExecContext(ctx, "INSERT INTO nowhere VALUES (1)")
				if err == nil {
					return errors.New("it did not fail")
				}
				return nil
			}
		}
		for name, doom := range dooms {
			w := d.adopt(t, pool)
			ok(t, insert(w.ctx, d, 1))
			_, err := w.Exec("SAVEPOINT its_owners")
			ok(t, err)
			ok(t, doom(w.ctx))
			for _, statement := range []string{"ROLLBACK TO SAVEPOINT its_owners", "INSERT INTO t (id) VALUES (3)"} {
				if _, err := w.Exec(statement); err == nil {
					t.Errorf("%s: the owner's %s succeeds", name, statement)
				}
			}
			if w.Commit() == nil {
				t.Errorf("%s: so does its commit", name)
			}
			is(t, w.ended(t.Context(), true), dbscope.ErrRolledBack)
			equal(t, "hooks", w.hooks, "rolled back")
			want(t, "stored", d.stored(t))
		}
	})
}

// Rows that the owner has open keep some drivers from sending anything.
func TestRowsOfTheOwnersDoNotLetItCommitADoomedUnit(t *testing.T) {
	onEachAdopted(t, func(t *testing.T, d *opened, pool *sql.DB) {
		w := d.adopt(t, pool)
		ok(t, insert(w.ctx, d, 1))
		ok(t, insert(w.ctx, d, 2))
		rows, err := w.Query("SELECT id FROM t")
		ok(t, err)
		rows.Next()
		ok(t, dbscope.MarkRollback(w.ctx))
		_, _ = rows.Close(), rows.Err()
		if w.Commit() == nil {
			t.Error("the owner could commit")
		}
		is(t, w.ended(t.Context(), true), dbscope.ErrRolledBack)
		want(t, "stored", d.stored(t))
	})
}

// The line of docs/adopt.md is what this test prints where it is missing.
func TestWhatTheOwnersCommitSaysIsInTheDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/adopt.md")
	ok(t, err)
	for name, db := range bySqlscope() {
		t.Run(name, func(t *testing.T) {
			d := open(t, db)
			w := d.adopt(t, d.other)
			ok(t, insert(w.ctx, d, 1))
			ok(t, dbscope.MarkRollback(w.ctx))
			_, statement := w.Exec("INSERT INTO t (id) VALUES (2)")
			own := w.Commit()
			line := fmt.Sprintf("| %s | `%v` | `%v` |", name, statement, own)
			if statement == nil || own == nil || !strings.Contains(string(page), line) {
				t.Errorf("docs/adopt.md has no line\n%s", line)
			}
			ok(t, w.ended(t.Context(), own == nil))
			want(t, "stored", d.stored(t))
		})
	}
}

func TestAStatementThatCommitsAnAdoptedTransactionLetsNothingFollow(t *testing.T) {
	onMariaDBAndMySQL(t, func(t *testing.T, p product) {
		for _, commits := range []bool{true, false} {
			d := open(t, p.database)
			w := d.adopt(t, d.other)
			ok(t, insert(w.ctx, d, 1))
			if _, err := d.ExecContext(w.ctx, "CREATE TABLE other (id INTEGER)"); err == nil || !strings.Contains(err.Error(), "has committed") {
				t.Fatalf("CREATE TABLE says %v", err)
			}
			_, err := w.Exec("INSERT INTO t (id) VALUES (2)")
			is(t, err, sql.ErrTxDone) // it would be committed by itself
			is(t, w.Commit(), sql.ErrTxDone)
			is(t, w.ended(t.Context(), commits), dbscope.ErrCommitUnknown)
			equal(t, "hooks", w.hooks)
			want(t, "stored", d.stored(t), 1)
		}
	})
}

func TestACopyInAnAdoptedTransactionIsWholeOrNothing(t *testing.T) {
	d := open(t, databases["PostgreSQL by pq"])
	for _, ends := range []bool{true, false} {
		w := d.adopt(t, d.other)
		st, err := d.PrepareContext(w.ctx, `COPY t (id) FROM STDIN`)
		ok(t, err)
		_, err = st.ExecContext(w.ctx, 1)
		ok(t, err)
		is(t, insert(w.ctx, d, 2), dbscope.ErrSessionBusy)
		if ends {
			_, err = st.ExecContext(w.ctx)
			ok(t, errors.Join(err, st.Close()))
			own, ended := w.commit()
			ok(t, errors.Join(own, ended))
			want(t, "stored", d.stored(t), 1)
			_, err = d.other.Exec("DELETE FROM t")
			ok(t, err)
		} else {
			ok(t, dbscope.MarkRollback(w.ctx))
			if w.Commit() == nil {
				t.Error("the owner could commit")
			}
			is(t, w.ended(t.Context(), true), dbscope.ErrRolledBack)
			want(t, "stored", d.stored(t))
			_ = st.Close()
		}
	}
}

func TestAnOwnerWhoseContextEndsRollsBack(t *testing.T) {
	onEachAdopted(t, func(t *testing.T, d *opened, pool *sql.DB) {
		ctx, cancel := context.WithCancel(t.Context())
		tx, err := pool.BeginTx(ctx, nil)
		ok(t, err)
		joined, ended, err := d.scoped.(overSQL).Adopt(ctx, tx)
		ok(t, err)
		ok(t, insert(joined, d, 1))
		cancel()
		is(t, insert(joined, d, 2), context.Canceled)
		own := tx.Commit()
		if own == nil {
			t.Error("the owner could commit")
		}
		ok(t, ended(joined, own == nil))
		want(t, "stored", d.stored(t))
	})
}

func TestWhatIsAlreadyAUnitCannotBeAdopted(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		target := sqlscope.New(func(context.Context, string) (*sql.DB, error) { return nil, errStop })
		defer func() { _ = target.Close() }()
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			tx, err := d.SQL().BeginTx(ctx, nil)
			ok(t, err)
			if _, _, err := target.Adopt(ctx, tx); err == nil || !strings.Contains(err.Error(), "pass the context") {
				t.Errorf("a transaction of SQL(): %v", err)
			}
			return tx.Commit()
		}))
	})
}

// A connection that is cut, at whatever moment, must not make a hook tell of what is
// not so.
func TestHooksOfAnAdoptedTransactionAreTrueThoughItsConnectionIsCut(t *testing.T) {
	proxy := wire.Start(t, fmt.Sprintf("127.0.0.1:%d", pgtest.Shared(t).Port()))
	for name, db := range bySqlscope() {
		if !db.postgres {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dsn := db.dsn(t)
			db.dsn = func(*testing.T) string { return dsn }
			d := open(t, db)
			through, err := sql.Open(d.driver, proxy.DSN(dsn))
			ok(t, err)
			defer func() { ok(t, through.Close()) }()
			id := 0
			cuts := proxy.CutEach([]string{"INSERT INTO t", "SAVEPOINT", "RELEASE", "nowhere", "commit", "COMMIT"}, func() {
				d.cutUnit(t, through, id)
				id += 10
			})
			if cuts < 20 {
				t.Errorf("only %d connections were cut", cuts)
			}
		})
	}
}

func (o *opened) cutUnit(t *testing.T, pool *sql.DB, id int) {
	t.Helper()
	tx, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		return
	}
	defer func() { _ = tx.Rollback() }()
	ctx, ended, err := o.scoped.(overSQL).Adopt(t.Context(), tx)
	if err != nil {
		return
	}
	said := ""
	ok(t, o.AfterCommit(ctx, func(context.Context) error { said = "committed"; return nil }))
	ok(t, o.AfterRollback(ctx, func(context.Context) error { said = "rolled back"; return nil }))
	did := errors.Join(insert(ctx, o, id+1), o.Atomic(ctx, func(ctx context.Context) error { return insert(ctx, o, id+2) }))
	_ = o.Atomic(ctx, func(ctx context.Context) error {
		_, err := o.ExecContext(ctx, "INSERT INTO nowhere VALUES (1)")
		return err
	})
	own := tx.Commit()
	told := ended(t.Context(), own == nil)
	var stored []int
	for _, s := range o.stored(t) {
		if s == id+1 || s == id+2 {
			stored = append(stored, s)
		}
	}
	whole := len(stored) == 2
	switch {
	case len(stored) == 1, whole && did != nil:
		t.Errorf("half of it is stored: %v, after %v", stored, did)
	case said == "committed" && !whole, said == "committed" && told != nil, said == "rolled back" && own == nil && whole:
		t.Errorf("the hook says %s of %v; its owner %v, and ended %v", said, stored, own, told)
	}
}
