package model_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

var postgresKind = kind{deferred: true, hasty: true, fates: map[failure]failure{
	duplicate: aborting, misspelt: aborting, losing: losing,
}}

type postgres struct {
	*pgxscope.DB
	table
	mu    sync.Mutex
	other *pgx.Conn // that makes statements wait
}

func openPostgres(t *testing.T, name string) *postgres {
	dsn := pgtest.Shared(t).CreateDatabase(t)
	pgtest.Shared(t).Query(t, dsn, schema+"; INSERT INTO t (id) VALUES (0)")
	other, err := pgx.Connect(t.Context(), dsn)
	ok(t, err)
	d := &postgres{DB: pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
		config, err := pgxpool.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		config.MaxConns = 30
		config.ConnConfig.RuntimeParams["synchronous_commit"] = "off"
		config.ConnConfig.RuntimeParams["log_min_messages"] = "panic" // errors are what this is about
		pgxscope.Configure(config)
		return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	}, dbscope.Name(name)), other: other}
	t.Cleanup(func() {
		ok(t, d.Close())
		ok(t, other.Close(context.Background()))
	})
	return d
}

func (d *postgres) store(ctx context.Context, s *step) error {
	_, err := d.Exec(ctx, d.statement(s, d.gate(s)))
	return err
}

func (d *postgres) gate(s *step) string { return "pg_advisory_xact_lock(" + d.key(s) + ")::text = ''" }

func (d *postgres) hold(s *step) (reached func(chan error) bool, goOn func()) {
	d.ask("SELECT pg_advisory_lock(" + d.key(s) + ")")
	waits := "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = " + d.key(s)
	return untilWaiting(func() bool { return d.ask(waits) == int64(1) }),
		func() { d.ask("SELECT pg_advisory_unlock(" + d.key(s) + ")") }
}

func (d *postgres) ask(query string) any {
	d.mu.Lock()
	defer d.mu.Unlock()
	rows, err := d.other.Query(context.Background(), query)
	if err != nil {
		panic(err)
	}
	row, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (any, error) {
		values, err := row.Values()
		return values[0], err
	})
	if err != nil {
		panic(err)
	}
	return row
}

func (d *postgres) read(ctx context.Context, s *step) (rest func() error, err error) {
	rows, err := d.Query(ctx, d.query(s, d.gate(s)))
	if err == nil && !rows.Next() { // which is where pgx has an error of the server
		err = rows.Err()
	}
	return func() error {
		for rows.Next() {
		}
		return rows.Err()
	}, err
}

func (d *postgres) nest(ctx context.Context) (end func(commit bool) error, err error) {
	tx, err := d.Session(ctx)
	if err != nil {
		return nil, err
	}
	inner, err := tx.Begin(ctx)
	return endOf(ctx, inner), err
}

func (d *postgres) handle(ctx context.Context) (func(context.Context, *step) error, error) {
	tx, err := d.Session(ctx)
	return func(ctx context.Context, s *step) error {
		_, err := tx.Exec(ctx, d.statement(s, ""))
		return err
	}, err
}

func (d *postgres) stored(t failer) []int {
	pool, err := d.Pool(context.Background())
	ok(t, err)
	var numbers []int
	ok(t, pool.QueryRow(context.Background(),
		"SELECT coalesce(array_agg(id - $1::int), '{}') FROM t WHERE id >= $1", d.first).Scan(&numbers))
	slices.Sort(numbers)
	return numbers
}

func (d *postgres) inUse(t failer) int {
	pool, err := d.Pool(context.Background())
	ok(t, err)
	return int(pool.Stat().AcquiredConns())
}
