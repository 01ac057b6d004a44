package libraries

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope/tests/libraries/sqlc/mybooks"
	"github.com/dbscope/dbscope/tests/libraries/sqlc/pgbooks"
	"github.com/dbscope/dbscope/tests/libraries/sqlc/pgxbooks"
)

// sqlcQueries is what sqlc generates for MySQL, whose statements SQLite takes too, and
// for PostgreSQL.
type sqlcQueries interface {
	AddAuthor(ctx context.Context, name string) error
	AuthorID(ctx context.Context, name string) (int32, error)
	Titles(ctx context.Context, name string) ([]string, error)
	CountBooks(ctx context.Context) (int64, error)
}

type sqlcProgram struct {
	db  *sql.DB
	all sqlcQueries
	in  func(tx *sql.Tx) sqlcQueries
	add func(ctx context.Context, queries sqlcQueries, author int32, title string) error
}

// OpenSQLC opens the program on code that sqlc has generated for database/sql, with
// prepared statements.
func OpenSQLC(handle *sql.DB, dialect string) (Program, error) {
	if dialect == "postgres" {
		all, err := pgbooks.Prepare(context.Background(), handle)
		return sqlcProgram{
			handle, all, func(tx *sql.Tx) sqlcQueries { return all.WithTx(tx) },
			func(ctx context.Context, queries sqlcQueries, author int32, title string) error {
				return queries.(*pgbooks.Queries).AddBook(ctx, pgbooks.AddBookParams{AuthorID: author, Title: title})
			},
		}, err
	}
	all, err := mybooks.Prepare(context.Background(), handle)
	return sqlcProgram{
		handle, all, func(tx *sql.Tx) sqlcQueries { return all.WithTx(tx) },
		func(ctx context.Context, queries sqlcQueries, author int32, title string) error {
			return queries.(*mybooks.Queries).AddBook(ctx, mybooks.AddBookParams{AuthorID: author, Title: title})
		},
	}, err
}

func (p sqlcProgram) Add(ctx context.Context, author string, titles ...string) error {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	err = p.in(tx).AddAuthor(ctx, author)
	if err == nil {
		err = p.addAll(ctx, p.in(tx), author, titles)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (p sqlcProgram) addAll(ctx context.Context, queries sqlcQueries, author string, titles []string) error {
	id, err := queries.AuthorID(ctx, author)
	for _, title := range titles {
		if err == nil {
			err = p.add(ctx, queries, id, title)
		}
	}
	return err
}

func (p sqlcProgram) Titles(ctx context.Context, author string) ([]string, error) {
	return p.all.Titles(ctx, author)
}

func (p sqlcProgram) AddAll(ctx context.Context, author string, titles ...string) error {
	return p.addAll(ctx, p.all, author, titles)
}

func (p sqlcProgram) Count(ctx context.Context) (int, error) {
	n, err := p.all.CountBooks(ctx)
	return int(n), err
}

// PgxDB is what a program on pgx takes: a *pgxpool.Pool, or what has its methods.
type PgxDB interface {
	pgxbooks.DBTX
	Begin(ctx context.Context) (pgx.Tx, error)
}

type sqlcPgxProgram struct{ db PgxDB }

// OpenSQLCPgx opens the program on code that sqlc has generated for pgx.
func OpenSQLCPgx(db PgxDB) Program { return sqlcPgxProgram{db} }

func (p sqlcPgxProgram) Add(ctx context.Context, author string, titles ...string) error {
	return pgx.BeginFunc(ctx, p.db, func(tx pgx.Tx) error {
		queries := pgxbooks.New(tx)
		if err := queries.AddAuthor(ctx, author); err != nil {
			return err
		}
		return addSQLCPgx(ctx, queries, author, titles)
	})
}

func addSQLCPgx(ctx context.Context, queries *pgxbooks.Queries, author string, titles []string) error {
	id, err := queries.AuthorID(ctx, author)
	if err != nil {
		return err
	}
	var books []pgxbooks.AddBooksParams
	for _, title := range titles {
		books = append(books, pgxbooks.AddBooksParams{AuthorID: id, Title: title})
	}
	_, err = queries.AddBooks(ctx, books) // by COPY
	return err
}

func (p sqlcPgxProgram) Titles(ctx context.Context, author string) ([]string, error) {
	return pgxbooks.New(p.db).Titles(ctx, author)
}

func (p sqlcPgxProgram) AddAll(ctx context.Context, author string, titles ...string) error {
	return addSQLCPgx(ctx, pgxbooks.New(p.db), author, titles)
}

func (p sqlcPgxProgram) Count(ctx context.Context) (int, error) {
	n, err := pgxbooks.New(p.db).CountBooks(ctx)
	return int(n), err
}
