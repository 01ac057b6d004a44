package libraries

import (
	"github.com/stephenafamo/bob"
	"github.com/stephenafamo/bob/dialect/mysql"
	"github.com/stephenafamo/bob/dialect/mysql/im"
	"github.com/stephenafamo/bob/dialect/mysql/sm"
)

// bobMySQL has the queries in the dialect of MariaDB and MySQL.
type bobMySQL struct{}

func (bobMySQL) addAuthor(name string) bob.Query {
	return mysql.Insert(im.Into("authors", "name"), im.Values(mysql.Arg(name)))
}

func (bobMySQL) author(name string) bob.Query {
	return mysql.Select(sm.Columns("id"), sm.From("authors"), sm.Where(mysql.Quote("name").EQ(mysql.Arg(name))))
}

func (bobMySQL) addBooks(author int, titles []string) bob.Query {
	insert := mysql.Insert(im.Into("books", "author_id", "title"))
	for _, title := range titles {
		insert.Apply(im.Values(mysql.Arg(author, title)))
	}
	return insert
}

func (bobMySQL) titles(author string) bob.Query {
	return mysql.Select(sm.Columns(mysql.Quote("b", "title")), sm.From("books").As("b"),
		sm.InnerJoin("authors").As("a").OnEQ(mysql.Quote("a", "id"), mysql.Quote("b", "author_id")),
		sm.Where(mysql.Quote("a", "name").EQ(mysql.Arg(author))), sm.OrderBy(mysql.Quote("b", "title")))
}

func (bobMySQL) count() bob.Query {
	return mysql.Select(sm.Columns("count(*)"), sm.From("books"))
}
