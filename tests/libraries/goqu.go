package libraries

import (
	"context"
	"database/sql"

	"github.com/doug-martin/goqu/v9"
	_ "github.com/doug-martin/goqu/v9/dialect/mysql"    // its dialects
	_ "github.com/doug-martin/goqu/v9/dialect/postgres" // as above
	_ "github.com/doug-martin/goqu/v9/dialect/sqlite3"  // as above
)

type goquProgram struct{ db *goqu.Database }

// OpenGoqu opens the program on goqu.
func OpenGoqu(handle *sql.DB, dialect string) (Program, error) {
	if dialect == "sqlite" {
		dialect = "sqlite3"
	}
	return goquProgram{goqu.Dialect(dialect).DB(handle)}, nil
}

// goquRunner is a *goqu.Database or a *goqu.TxDatabase.
type goquRunner interface {
	From(from ...any) *goqu.SelectDataset
	Insert(table any) *goqu.InsertDataset
}

func (p goquProgram) Add(ctx context.Context, author string, titles ...string) error {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	return tx.Wrap(func() error {
		_, err := tx.Insert("authors").Rows(Author{Name: author}).Executor().ExecContext(ctx)
		if err != nil || len(titles) == 0 {
			return err
		}
		return addGoqu(ctx, tx, author, titles)
	})
}

func addGoqu(ctx context.Context, db goquRunner, author string, titles []string) error {
	var a Author
	if _, err := db.From("authors").Where(goqu.C("name").Eq(author)).ScanStructContext(ctx, &a); err != nil {
		return err
	}
	var books []Book
	for _, title := range titles {
		books = append(books, Book{AuthorID: a.ID, Title: title})
	}
	_, err := db.Insert("books").Rows(books).Executor().ExecContext(ctx)
	return err
}

func (p goquProgram) Titles(ctx context.Context, author string) (titles []string, err error) {
	err = p.db.From(goqu.T("books").As("b")).Join(goqu.T("authors").As("a"), goqu.On(goqu.I("a.id").Eq(goqu.I("b.author_id")))).
		Where(goqu.I("a.name").Eq(author)).Order(goqu.I("b.title").Asc()).Select("b.title").ScanValsContext(ctx, &titles)
	return titles, err
}

func (p goquProgram) AddAll(ctx context.Context, author string, titles ...string) error {
	return addGoqu(ctx, p.db, author, titles)
}

func (p goquProgram) Count(ctx context.Context) (int, error) {
	n, err := p.db.From("books").Prepared(true).CountContext(ctx)
	return int(n), err
}
