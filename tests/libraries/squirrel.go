package libraries

import (
	"context"
	"database/sql"
	"errors"

	"github.com/Masterminds/squirrel"
)

type squirrelProgram struct {
	db      *sql.DB
	build   squirrel.StatementBuilderType
	prepare *squirrel.StmtCache
}

// OpenSquirrel opens the program on squirrel.
func OpenSquirrel(handle *sql.DB, dialect string) (Program, error) {
	build := squirrel.StatementBuilder
	if dialect == "postgres" {
		build = build.PlaceholderFormat(squirrel.Dollar)
	}
	return squirrelProgram{handle, build, squirrel.NewStmtCache(handle)}, nil
}

// squirrelRunner is a *sql.DB or a *sql.Tx.
type squirrelRunner interface {
	squirrel.BaseRunner
	squirrel.ExecerContext
	squirrel.QueryerContext
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (p squirrelProgram) Add(ctx context.Context, author string, titles ...string) error {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	_, err = p.build.Insert("authors").Columns("name").Values(author).RunWith(tx).ExecContext(ctx)
	if err == nil && len(titles) > 0 {
		err = p.add(ctx, tx, author, titles)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (p squirrelProgram) add(ctx context.Context, db squirrelRunner, author string, titles []string) error {
	query, args, err := p.build.Select("id").From("authors").Where(squirrel.Eq{"name": author}).ToSql()
	if err != nil {
		return err
	}
	var id int
	if err := db.QueryRowContext(ctx, query, args...).Scan(&id); err != nil {
		return err
	}
	insert := p.build.Insert("books").Columns("author_id", "title")
	for _, title := range titles {
		insert = insert.Values(id, title)
	}
	_, err = insert.RunWith(db).ExecContext(ctx)
	return err
}

func (p squirrelProgram) Titles(ctx context.Context, author string) (titles []string, err error) {
	rows, err := p.build.Select("title").From("books").Join("authors a ON a.id = author_id").Where(squirrel.Eq{"a.name": author}).
		OrderBy("title").RunWith(p.db).QueryContext(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var title string
		if err := rows.Scan(&title); err != nil {
			return nil, err
		}
		titles = append(titles, title)
	}
	return titles, rows.Err()
}

func (p squirrelProgram) AddAll(ctx context.Context, author string, titles ...string) error {
	return p.add(ctx, p.db, author, titles)
}

func (p squirrelProgram) Count(ctx context.Context) (n int, err error) {
	rows, err := p.build.Select("count(*)").From("books").RunWith(p.prepare).QueryContext(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	rows.Next()
	return n, errors.Join(rows.Scan(&n), rows.Err())
}
