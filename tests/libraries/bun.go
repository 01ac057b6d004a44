package libraries

import (
	"context"
	"database/sql"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/mysqldialect"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/schema"
)

type bunAuthor struct {
	bun.BaseModel `bun:"table:authors,alias:a"`

	ID    int `bun:",pk,autoincrement"`
	Name  string
	Books []*bunBook `bun:"rel:has-many,join:id=author_id"`
}

type bunBook struct {
	bun.BaseModel `bun:"table:books,alias:b"`

	ID       int `bun:",pk,autoincrement"`
	AuthorID int
	Title    string
}

type bunProgram struct {
	db    *bun.DB
	count *sql.Stmt
}

// OpenBun opens the program on bun.
func OpenBun(handle *sql.DB, dialect string) (Program, error) {
	db := bun.NewDB(handle, map[string]schema.Dialect{
		"postgres": pgdialect.New(), "mysql": mysqldialect.New(), "sqlite": sqlitedialect.New(),
	}[dialect])
	count, err := db.Prepare("SELECT count(*) FROM books")
	return bunProgram{db, count.Stmt}, err
}

func (p bunProgram) Add(ctx context.Context, author string, titles ...string) error {
	return p.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		a := bunAuthor{Name: author}
		if _, err := tx.NewInsert().Model(&a).Exec(ctx); err != nil || len(titles) == 0 {
			return err
		}
		return addBun(ctx, tx, a.ID, titles)
	})
}

func addBun(ctx context.Context, db bun.IDB, author int, titles []string) error {
	var books []bunBook
	for _, title := range titles {
		books = append(books, bunBook{AuthorID: author, Title: title})
	}
	_, err := db.NewInsert().Model(&books).Exec(ctx)
	return err
}

func (p bunProgram) Titles(ctx context.Context, author string) (titles []string, err error) {
	var a bunAuthor
	inOrder := func(q *bun.SelectQuery) *bun.SelectQuery { return q.Order("title") }
	if err := p.db.NewSelect().Model(&a).Relation("Books", inOrder).Where("name = ?", author).Scan(ctx); err != nil {
		return nil, err
	}
	for _, b := range a.Books {
		titles = append(titles, b.Title)
	}
	return titles, nil
}

func (p bunProgram) AddAll(ctx context.Context, author string, titles ...string) error {
	var a bunAuthor
	if err := p.db.NewSelect().Model(&a).Where("name = ?", author).Scan(ctx); err != nil {
		return err
	}
	return addBun(ctx, p.db, a.ID, titles)
}

func (p bunProgram) Count(ctx context.Context) (n int, err error) {
	err = p.count.QueryRowContext(ctx).Scan(&n)
	return n, err
}
