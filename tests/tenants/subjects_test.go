package tenants_test

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// schema has rows that say in whose name they are, by default that of the settings,
// and whose program has written them.
const schema = `
CREATE TABLE items (
	id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	tenant text DEFAULT nullif(current_setting('app.tenant', true), ''),
	owner  text NOT NULL
);
ALTER TABLE items ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON items USING (tenant = nullif(current_setting('app.tenant', true), ''));
DO $$BEGIN CREATE ROLE ` + role + `; EXCEPTION WHEN duplicate_object THEN END$$;
GRANT SELECT, INSERT ON items TO ` + role + `;`

const (
	store = "INSERT INTO items (owner) VALUES ($1)"
	count = "SELECT count(*), count(*) FILTER (WHERE owner <> $1 OR tenant IS DISTINCT FROM $1) FROM items"
)

// overSQL are the ways through a *sql.DB, which both adapters have.
type overSQL struct{ plain, joining *sql.DB }

func newOverSQL(db interface {
	SQL(opts ...sqlscope.SQLOption) *sql.DB
},
) overSQL {
	return overSQL{db.SQL(), db.SQL(sqlscope.JoinBegin())}
}

func (o overSQL) insert(ctx context.Context, r *rand.Rand, owner string) error {
	pool := o.plain
	if r.IntN(2) == 0 {
		pool = o.joining
	}
	switch r.IntN(4) {
	case 0:
		_, err := pool.ExecContext(ctx, store, owner)
		return err
	case 1:
		return pool.QueryRowContext(ctx, store+" RETURNING id", owner).Scan(new(int))
	case 2:
		st, err := pool.PrepareContext(ctx, store)
		if err != nil {
			return err
		}
		_, err = st.ExecContext(ctx, owner)
		return errors.Join(err, st.Close())
	}
	return o.inTx(ctx, pool, r.IntN(3) > 0, owner)
}

func (o overSQL) inTx(ctx context.Context, pool *sql.DB, commits bool, owner string) error {
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if _, err = tx.Exec(store, owner); err != nil || !commits {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (o overSQL) look(ctx context.Context, owner string) (all, foreign int, err error) {
	err = o.plain.QueryRowContext(ctx, count, owner).Scan(&all, &foreign)
	return all, foreign, err
}

type overPgx struct {
	*pgxscope.DB
	sql overSQL
}

func (o overPgx) sibling() subject { db := o.Sibling("second"); return overPgx{db, newOverSQL(db)} }

func (o overPgx) exec(ctx context.Context, query string) error {
	_, err := o.Exec(ctx, query)
	return err
}

func (o overPgx) unscoped(ctx context.Context, owner string) error {
	return o.sql.inTx(ctx, o.sql.plain, true, owner)
}

func (o overPgx) detached(ctx context.Context, fn func(context.Context) error) error {
	return o.Detached(ctx, func(ctx context.Context, _ pgx.Tx) error { return fn(ctx) })
}

func (o overPgx) insert(ctx context.Context, r *rand.Rand, owner string) error {
	switch r.IntN(10) {
	case 0:
		_, err := o.Exec(ctx, store, owner)
		return err
	case 1:
		_, err := o.Exec(ctx, "INSERT INTO items (owner) VALUES ('"+owner+"'); SELECT 1")
		return err
	case 2:
		return o.QueryRow(ctx, store+" RETURNING id", owner).Scan(new(int))
	case 3:
		rows, err := o.Query(ctx, store+" RETURNING id", owner)
		if err != nil {
			return err
		}
		_, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
		return err
	case 4:
		b := &pgx.Batch{}
		b.Queue(store, owner)
		b.Queue(store, owner)
		return o.SendBatch(ctx, b).Close()
	case 5:
		_, err := o.CopyFrom(ctx, pgx.Identifier{"items"}, []string{"owner"}, pgx.CopyFromRows([][]any{{owner}, {owner}}))
		return err
	case 6, 7:
		return o.byHandle(ctx, r, owner)
	}
	return o.sql.insert(ctx, r, owner)
}

// byHandle passes the statement a context that is not the unit's, or is.
func (o overPgx) byHandle(ctx context.Context, r *rand.Rand, owner string) error {
	tx, err := o.Session(ctx)
	if err != nil {
		return err
	}
	if r.IntN(2) == 0 {
		if r.IntN(2) == 0 {
			_, err = tx.Exec(dbscope.WithoutScope(as(ctx, "nobody")), store, owner)
			return err
		}
		conn := tx.Conn()
		if conn == nil {
			return errors.New("there is no connection")
		}
		if _, err = conn.Exec(ctx, store, owner); err != nil { // which the scope has not seen
			err = errors.Join(err, o.exec(ctx, "SELECT 1"))
		}
		return err
	}
	nested, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err = nested.Exec(ctx, store, owner); err != nil || r.IntN(3) == 0 {
		return errors.Join(err, nested.Rollback(ctx))
	}
	return nested.Commit(ctx)
}

func (o overPgx) look(ctx context.Context, r *rand.Rand, owner string) (all, foreign int, err error) {
	if r.IntN(3) == 0 {
		return o.sql.look(ctx, owner)
	}
	err = o.QueryRow(ctx, count, owner).Scan(&all, &foreign)
	return all, foreign, err
}

type overLib struct {
	*sqlscope.DB
	sql overSQL
}

func (o overLib) sibling() subject { db := o.Sibling("second"); return overLib{db, newOverSQL(db)} }

func (o overLib) exec(ctx context.Context, query string) error {
	_, err := o.ExecContext(ctx, query)
	return err
}

func (o overLib) unscoped(ctx context.Context, owner string) error {
	return o.sql.inTx(ctx, o.sql.plain, true, owner)
}

func (o overLib) detached(ctx context.Context, fn func(context.Context) error) error {
	return o.Detached(ctx, func(ctx context.Context, _ *sql.Tx) error { return fn(ctx) })
}

func (o overLib) insert(ctx context.Context, r *rand.Rand, owner string) error {
	switch r.IntN(4) {
	case 0:
		_, err := o.ExecContext(ctx, store, owner)
		return err
	case 1:
		return o.QueryRowContext(ctx, store+" RETURNING id", owner).Scan(new(int))
	case 2:
		tx, err := o.Session(ctx)
		if err != nil {
			return err
		}
		_, err = tx.Exec(store, owner) // whose context is none
		return err
	}
	return o.sql.insert(ctx, r, owner)
}

func (o overLib) look(ctx context.Context, r *rand.Rand, owner string) (all, foreign int, err error) {
	if r.IntN(2) == 0 {
		return o.sql.look(ctx, owner)
	}
	err = o.QueryRowContext(ctx, count, owner).Scan(&all, &foreign)
	return all, foreign, err
}
