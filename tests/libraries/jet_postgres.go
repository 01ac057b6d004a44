package libraries

import . "github.com/go-jet/jet/v2/postgres" //nolint:staticcheck // as its users do

// The tables are written here as jet would generate them from a database of PostgreSQL.
var (
	postgresAuthorID, postgresAuthorName = IntegerColumn("id"), StringColumn("name")
	postgresAuthors                      = NewTable("", "authors", "", postgresAuthorID, postgresAuthorName)

	postgresBookID, postgresBookAuthor, postgresBookTitle = IntegerColumn("id"), IntegerColumn("author_id"), StringColumn("title")
	postgresBooks                                         = NewTable("", "books", "", postgresBookID, postgresBookAuthor, postgresBookTitle)
)

// jetPostgres has the statements in the dialect of PostgreSQL.
type jetPostgres struct{}

func (jetPostgres) addAuthor(name string) jetStatement {
	return postgresAuthors.INSERT(postgresAuthorName).VALUES(name)
}

func (jetPostgres) addBooks(author string, titles []string) jetStatement {
	insert := postgresBooks.INSERT(postgresBookAuthor, postgresBookTitle)
	for _, title := range titles {
		insert = insert.VALUES(SELECT(postgresAuthorID).FROM(postgresAuthors).WHERE(postgresAuthorName.EQ(String(author))), title)
	}
	return insert
}

func (jetPostgres) titles(author string) jetStatement {
	return SELECT(postgresAuthorName, postgresBookTitle).FROM(postgresAuthors.INNER_JOIN(postgresBooks, postgresBookAuthor.EQ(postgresAuthorID))).
		WHERE(postgresAuthorName.EQ(String(author))).ORDER_BY(postgresBookTitle)
}

func (jetPostgres) count() jetStatement {
	return SELECT(COUNT(STAR).AS("n")).FROM(postgresBooks)
}
