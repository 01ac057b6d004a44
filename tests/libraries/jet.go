package libraries

import (
	"context"
	"database/sql"
	"errors"

	"github.com/go-jet/jet/v2/qrm"
)

// jetStatement is one of any of jet's dialects.
type jetStatement interface {
	ExecContext(ctx context.Context, db qrm.Executable) (sql.Result, error)
	QueryContext(ctx context.Context, db qrm.Queryable, destination any) error
}

// jetStatements are the program's. jet has a package for each dialect to write them with.
type jetStatements interface {
	addAuthor(name string) jetStatement
	addBooks(author string, titles []string) jetStatement
	titles(author string) jetStatement
	count() jetStatement
}

type jetProgram struct {
	db        *sql.DB
	statement jetStatements
}

// OpenJet opens the program on jet.
func OpenJet(handle *sql.DB, dialect string) (Program, error) {
	statement := map[string]jetStatements{"postgres": jetPostgres{}, "mysql": jetMySQL{}, "sqlite": jetSQLite{}}[dialect]
	return jetProgram{handle, statement}, nil
}

func (p jetProgram) Add(ctx context.Context, author string, titles ...string) error {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	_, err = p.statement.addAuthor(author).ExecContext(ctx, tx)
	if err == nil && len(titles) > 0 {
		_, err = p.statement.addBooks(author, titles).ExecContext(ctx, tx)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (p jetProgram) Titles(ctx context.Context, author string) (titles []string, err error) {
	type Books struct {
		Title string `sql:"primary_key"`
	}
	type Authors struct {
		Name  string `sql:"primary_key"`
		Books []Books
	}
	var loaded []Authors
	if err := p.statement.titles(author).QueryContext(ctx, p.db, &loaded); err != nil {
		return nil, err
	}
	for _, b := range loaded[0].Books {
		titles = append(titles, b.Title)
	}
	return titles, nil
}

func (p jetProgram) AddAll(ctx context.Context, author string, titles ...string) error {
	_, err := p.statement.addBooks(author, titles).ExecContext(ctx, p.db)
	return err
}

func (p jetProgram) Count(ctx context.Context) (int, error) {
	var found struct{ N int }
	err := p.statement.count().QueryContext(ctx, p.db, &found)
	return found.N, err
}
