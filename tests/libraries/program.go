package libraries

import "context"

// Program keeps authors and their books.
type Program interface {
	// Add stores an author with books, in a transaction of the library's own.
	Add(ctx context.Context, author string, titles ...string) error
	// Titles returns an author's books in order, loaded as the library loads what
	// belongs to a row.
	Titles(ctx context.Context, author string) ([]string, error)
	// AddAll stores books by one statement, or a batch.
	AddAll(ctx context.Context, author string, titles ...string) error
	// Count counts all books by a statement that is prepared, where the library has such.
	Count(ctx context.Context) (int, error)
}

// Author is a row, for the libraries that need no type of their own.
type Author struct {
	ID   int    `db:"id" goqu:"skipinsert"`
	Name string `db:"name"`
}

// Book is one of an author.
type Book struct {
	ID       int    `db:"id" goqu:"skipinsert"`
	AuthorID int    `db:"author_id"`
	Title    string `db:"title"`
}
