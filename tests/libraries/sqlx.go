package libraries

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jmoiron/sqlx"
)

type sqlxProgram struct {
	db    *sqlx.DB
	count *sqlx.Stmt
}

// OpenSQLX opens the program on sqlx.
func OpenSQLX(handle *sql.DB, dialect string) (Program, error) {
	db := sqlx.NewDb(handle, map[string]string{"postgres": "pgx", "mysql": "mysql", "sqlite": "sqlite3"}[dialect])
	count, err := db.Preparex("SELECT count(*) FROM books")
	return sqlxProgram{db, count}, err
}

func (p sqlxProgram) Add(ctx context.Context, author string, titles ...string) error {
	tx, err := p.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	_, err = tx.NamedExecContext(ctx, "INSERT INTO authors (name) VALUES (:name)", Author{Name: author})
	if err == nil && len(titles) > 0 {
		err = addSQLX(ctx, tx, author, titles)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func addSQLX(ctx context.Context, db sqlx.ExtContext, author string, titles []string) error {
	var id int
	if err := sqlx.GetContext(ctx, db, &id, db.Rebind("SELECT id FROM authors WHERE name = ?"), author); err != nil {
		return err
	}
	var books []Book
	for _, title := range titles {
		books = append(books, Book{AuthorID: id, Title: title})
	}
	_, err := sqlx.NamedExecContext(ctx, db, "INSERT INTO books (author_id, title) VALUES (:author_id, :title)", books)
	return err
}

func (p sqlxProgram) Titles(ctx context.Context, author string) (titles []string, err error) {
	query, args, err := sqlx.In("SELECT title FROM books JOIN authors a ON a.id = author_id WHERE a.name IN (?) ORDER BY title", []string{author})
	if err != nil {
		return nil, err
	}
	err = p.db.SelectContext(ctx, &titles, p.db.Rebind(query), args...)
	return titles, err
}

func (p sqlxProgram) AddAll(ctx context.Context, author string, titles ...string) error {
	return addSQLX(ctx, p.db, author, titles)
}

func (p sqlxProgram) Count(ctx context.Context) (n int, err error) {
	err = p.count.GetContext(ctx, &n)
	return n, err
}
