package libraries

import (
	"github.com/stephenafamo/bob"
	"github.com/stephenafamo/bob/dialect/sqlite"
	"github.com/stephenafamo/bob/dialect/sqlite/im"
	"github.com/stephenafamo/bob/dialect/sqlite/sm"
)

// bobSQLite has the queries in the dialect of SQLite.
type bobSQLite struct{}

func (bobSQLite) addAuthor(name string) bob.Query {
	return sqlite.Insert(im.Into("authors", "name"), im.Values(sqlite.Arg(name)))
}

func (bobSQLite) author(name string) bob.Query {
	return sqlite.Select(sm.Columns("id"), sm.From("authors"), sm.Where(sqlite.Quote("name").EQ(sqlite.Arg(name))))
}

func (bobSQLite) addBooks(author int, titles []string) bob.Query {
	insert := sqlite.Insert(im.Into("books", "author_id", "title"))
	for _, title := range titles {
		insert.Apply(im.Values(sqlite.Arg(author, title)))
	}
	return insert
}

func (bobSQLite) titles(author string) bob.Query {
	return sqlite.Select(sm.Columns(sqlite.Quote("b", "title")), sm.From("books").As("b"),
		sm.InnerJoin("authors").As("a").OnEQ(sqlite.Quote("a", "id"), sqlite.Quote("b", "author_id")),
		sm.Where(sqlite.Quote("a", "name").EQ(sqlite.Arg(author))), sm.OrderBy(sqlite.Quote("b", "title")))
}

func (bobSQLite) count() bob.Query {
	return sqlite.Select(sm.Columns("count(*)"), sm.From("books"))
}
