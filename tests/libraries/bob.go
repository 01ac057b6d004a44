package libraries

import (
	"context"
	"database/sql"
	"errors"

	"github.com/stephenafamo/bob"
	"github.com/stephenafamo/scan"
)

// bobQueries are the program's. bob has a package for each dialect to write them with.
type bobQueries interface {
	addAuthor(name string) bob.Query
	author(name string) bob.Query
	addBooks(author int, titles []string) bob.Query
	titles(author string) bob.Query
	count() bob.Query
}

type bobProgram struct {
	db    bob.DB
	query bobQueries
}

// OpenBob opens the program on bob.
func OpenBob(handle *sql.DB, dialect string) (Program, error) {
	query := map[string]bobQueries{"postgres": bobPostgres{}, "mysql": bobMySQL{}, "sqlite": bobSQLite{}}[dialect]
	return bobProgram{bob.NewDB(handle), query}, nil
}

func (p bobProgram) Add(ctx context.Context, author string, titles ...string) error {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	_, err = bob.Exec(ctx, tx, p.query.addAuthor(author))
	if err == nil && len(titles) > 0 {
		err = p.addBooks(ctx, tx, author, titles)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback(ctx))
	}
	return tx.Commit(ctx)
}

func (p bobProgram) addBooks(ctx context.Context, db bob.Executor, author string, titles []string) error {
	id, err := bob.One(ctx, db, p.query.author(author), scan.SingleColumnMapper[int])
	if err != nil {
		return err
	}
	_, err = bob.Exec(ctx, db, p.query.addBooks(id, titles))
	return err
}

func (p bobProgram) Titles(ctx context.Context, author string) ([]string, error) {
	return bob.All(ctx, p.db, p.query.titles(author), scan.SingleColumnMapper[string])
}

func (p bobProgram) AddAll(ctx context.Context, author string, titles ...string) error {
	return p.addBooks(ctx, p.db, author, titles)
}

func (p bobProgram) Count(ctx context.Context) (n int, err error) {
	stmt, err := bob.PrepareQuery[any](ctx, p.db, p.query.count(), scan.SingleColumnMapper[int])
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stmt.Close()) }()
	all, err := stmt.All(ctx, nil) // One leaves its rows open
	if err != nil {
		return 0, err
	}
	return all[0], nil
}
