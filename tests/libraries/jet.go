package libraries

import (
	"context"
	"database/sql"
	"errors"

	. "github.com/go-jet/jet/v2/postgres" //nolint:staticcheck // as its users do
)

// The tables are written here as jet would generate them from a database.
var (
	jetAuthorID, jetAuthorName = IntegerColumn("id"), StringColumn("name")
	jetAuthors                 = NewTable("", "authors", "", jetAuthorID, jetAuthorName)

	jetBookID, jetBookAuthor, jetBookTitle = IntegerColumn("id"), IntegerColumn("author_id"), StringColumn("title")
	jetBooks                               = NewTable("", "books", "", jetBookID, jetBookAuthor, jetBookTitle)
)

// jetDB is a *sql.DB or a *sql.Tx.
type jetDB interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

type jetProgram struct{ db *sql.DB }

// OpenJet opens the program on jet, for PostgreSQL.
func OpenJet(handle *sql.DB, _ string) (Program, error) { return jetProgram{handle}, nil }

func (p jetProgram) Add(ctx context.Context, author string, titles ...string) error {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	_, err = jetAuthors.INSERT(jetAuthorName).VALUES(author).ExecContext(ctx, tx)
	if err == nil && len(titles) > 0 {
		err = addJet(ctx, tx, author, titles)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func addJet(ctx context.Context, db jetDB, author string, titles []string) error {
	insert := jetBooks.INSERT(jetBookAuthor, jetBookTitle)
	for _, title := range titles {
		insert = insert.VALUES(SELECT(jetAuthorID).FROM(jetAuthors).WHERE(jetAuthorName.EQ(String(author))), title)
	}
	_, err := insert.ExecContext(ctx, db)
	return err
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
	err = SELECT(jetAuthorName, jetBookTitle).FROM(jetAuthors.INNER_JOIN(jetBooks, jetBookAuthor.EQ(jetAuthorID))).
		WHERE(jetAuthorName.EQ(String(author))).ORDER_BY(jetBookTitle).QueryContext(ctx, p.db, &loaded)
	if err != nil {
		return nil, err
	}
	for _, b := range loaded[0].Books {
		titles = append(titles, b.Title)
	}
	return titles, nil
}

func (p jetProgram) AddAll(ctx context.Context, author string, titles ...string) error {
	return addJet(ctx, p.db, author, titles)
}

func (p jetProgram) Count(ctx context.Context) (int, error) {
	var found struct{ N int }
	err := SELECT(COUNT(STAR).AS("n")).FROM(jetBooks).QueryContext(ctx, p.db, &found)
	return found.N, err
}
