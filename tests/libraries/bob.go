package libraries

import (
	"context"
	"database/sql"
	"errors"

	"github.com/stephenafamo/bob"
	"github.com/stephenafamo/bob/dialect/psql"
	"github.com/stephenafamo/bob/dialect/psql/im"
	"github.com/stephenafamo/bob/dialect/psql/sm"
	"github.com/stephenafamo/scan"
)

type bobProgram struct{ db bob.DB }

// OpenBob opens the program on bob, for PostgreSQL.
func OpenBob(handle *sql.DB, _ string) (Program, error) { return bobProgram{bob.NewDB(handle)}, nil }

func (p bobProgram) Add(ctx context.Context, author string, titles ...string) error {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	_, err = bob.Exec(ctx, tx, psql.Insert(im.Into("authors", "name"), im.Values(psql.Arg(author))))
	if err == nil && len(titles) > 0 {
		err = addBob(ctx, tx, author, titles)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback(ctx))
	}
	return tx.Commit(ctx)
}

func addBob(ctx context.Context, db bob.Executor, author string, titles []string) error {
	query := psql.Select(sm.Columns("id"), sm.From("authors"), sm.Where(psql.Quote("name").EQ(psql.Arg(author))))
	id, err := bob.One(ctx, db, query, scan.SingleColumnMapper[int])
	if err != nil {
		return err
	}
	insert := psql.Insert(im.Into("books", "author_id", "title"))
	for _, title := range titles {
		insert.Apply(im.Values(psql.Arg(id, title)))
	}
	_, err = bob.Exec(ctx, db, insert)
	return err
}

func (p bobProgram) Titles(ctx context.Context, author string) ([]string, error) {
	query := psql.Select(sm.Columns(psql.Quote("b", "title")), sm.From("books").As("b"),
		sm.InnerJoin("authors").As("a").OnEQ(psql.Quote("a", "id"), psql.Quote("b", "author_id")),
		sm.Where(psql.Quote("a", "name").EQ(psql.Arg(author))), sm.OrderBy(psql.Quote("b", "title")))
	return bob.All(ctx, p.db, query, scan.SingleColumnMapper[string])
}

func (p bobProgram) AddAll(ctx context.Context, author string, titles ...string) error {
	return addBob(ctx, p.db, author, titles)
}

func (p bobProgram) Count(ctx context.Context) (n int, err error) {
	stmt, err := bob.PrepareQuery[any](ctx, p.db, psql.Select(sm.Columns("count(*)"), sm.From("books")), scan.SingleColumnMapper[int])
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
