package libraries

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"

	"github.com/georgysavva/scany/v2/sqlscan"
)

type scanyProgram struct {
	db      *sql.DB
	dollars bool
}

// OpenScany opens the program on scany's sqlscan, with statements by hand.
func OpenScany(handle *sql.DB, dialect string) (Program, error) {
	return scanyProgram{handle, dialect == "postgres"}, nil
}

func (p scanyProgram) text(query string) string {
	if !p.dollars {
		return query
	}
	for i := 1; strings.Contains(query, "?"); i++ {
		query = strings.Replace(query, "?", "$"+strconv.Itoa(i), 1)
	}
	return query
}

// scanyRunner is a *sql.DB or a *sql.Tx.
type scanyRunner interface {
	sqlscan.Querier
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func (p scanyProgram) Add(ctx context.Context, author string, titles ...string) error {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, p.text("INSERT INTO authors (name) VALUES (?)"), author)
	if err == nil {
		err = p.add(ctx, tx, author, titles)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (p scanyProgram) add(ctx context.Context, db scanyRunner, author string, titles []string) error {
	var a Author
	if err := sqlscan.Get(ctx, db, &a, p.text("SELECT id, name FROM authors WHERE name = ?"), author); err != nil {
		return err
	}
	for _, title := range titles {
		if _, err := db.ExecContext(ctx, p.text("INSERT INTO books (author_id, title) VALUES (?, ?)"), a.ID, title); err != nil {
			return err
		}
	}
	return nil
}

func (p scanyProgram) Titles(ctx context.Context, author string) (titles []string, err error) {
	err = sqlscan.Select(ctx, p.db, &titles, p.text("SELECT title FROM books JOIN authors a ON a.id = author_id WHERE a.name = ? ORDER BY title"), author)
	return titles, err
}

func (p scanyProgram) AddAll(ctx context.Context, author string, titles ...string) error {
	return p.add(ctx, p.db, author, titles)
}

func (p scanyProgram) Count(ctx context.Context) (n int, err error) {
	err = sqlscan.Get(ctx, p.db, &n, "SELECT count(*) FROM books")
	return n, err
}
