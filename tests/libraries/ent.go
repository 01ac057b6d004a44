package libraries

import (
	"context"
	"database/sql"
	"errors"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/dbscope/dbscope/tests/libraries/ent"
	"github.com/dbscope/dbscope/tests/libraries/ent/author"
	"github.com/dbscope/dbscope/tests/libraries/ent/book"
)

type entProgram struct{ db *ent.Client }

// OpenEnt opens the program on ent.
func OpenEnt(handle *sql.DB, name string) (Program, error) {
	name = map[string]string{"postgres": dialect.Postgres, "mysql": dialect.MySQL, "sqlite": dialect.SQLite}[name]
	return entProgram{ent.NewClient(ent.Driver(entsql.OpenDB(name, handle)))}, nil
}

func (p entProgram) Add(ctx context.Context, author string, titles ...string) (err error) {
	tx, err := p.db.Tx(ctx)
	if err != nil {
		return err
	}
	a, err := tx.Author.Create().SetName(author).Save(ctx)
	if err == nil {
		err = addEnt(ctx, tx.Book, a.ID, titles)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func addEnt(ctx context.Context, books *ent.BookClient, author int, titles []string) error {
	return books.MapCreateBulk(titles, func(c *ent.BookCreate, i int) { c.SetAuthorID(author).SetTitle(titles[i]) }).Exec(ctx)
}

func (p entProgram) Titles(ctx context.Context, name string) (titles []string, err error) {
	inOrder := func(q *ent.BookQuery) { q.Order(book.ByTitle()) }
	a, err := p.db.Author.Query().Where(author.Name(name)).WithBooks(inOrder).Only(ctx)
	if err != nil {
		return nil, err
	}
	for _, b := range a.Edges.Books {
		titles = append(titles, b.Title)
	}
	return titles, nil
}

func (p entProgram) AddAll(ctx context.Context, name string, titles ...string) error {
	a, err := p.db.Author.Query().Where(author.Name(name)).Only(ctx)
	if err != nil {
		return err
	}
	return addEnt(ctx, p.db.Book, a.ID, titles)
}

func (p entProgram) Count(ctx context.Context) (int, error) { return p.db.Book.Query().Count(ctx) }
