package libraries

import (
	"github.com/stephenafamo/bob"
	"github.com/stephenafamo/bob/dialect/psql"
	"github.com/stephenafamo/bob/dialect/psql/im"
	"github.com/stephenafamo/bob/dialect/psql/sm"
)

// bobPostgres has the queries in the dialect of PostgreSQL.
type bobPostgres struct{}

func (bobPostgres) addAuthor(name string) bob.Query {
	return psql.Insert(im.Into("authors", "name"), im.Values(psql.Arg(name)))
}

func (bobPostgres) author(name string) bob.Query {
	return psql.Select(sm.Columns("id"), sm.From("authors"), sm.Where(psql.Quote("name").EQ(psql.Arg(name))))
}

func (bobPostgres) addBooks(author int, titles []string) bob.Query {
	insert := psql.Insert(im.Into("books", "author_id", "title"))
	for _, title := range titles {
		insert.Apply(im.Values(psql.Arg(author, title)))
	}
	return insert
}

func (bobPostgres) titles(author string) bob.Query {
	return psql.Select(sm.Columns(psql.Quote("b", "title")), sm.From("books").As("b"),
		sm.InnerJoin("authors").As("a").OnEQ(psql.Quote("a", "id"), psql.Quote("b", "author_id")),
		sm.Where(psql.Quote("a", "name").EQ(psql.Arg(author))), sm.OrderBy(psql.Quote("b", "title")))
}

func (bobPostgres) count() bob.Query {
	return psql.Select(sm.Columns("count(*)"), sm.From("books"))
}
