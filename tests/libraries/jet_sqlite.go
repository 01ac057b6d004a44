package libraries

import . "github.com/go-jet/jet/v2/sqlite" //nolint:staticcheck // as its users do

// The tables are written here as jet would generate them from a database of SQLite.
var (
	sqliteAuthorID, sqliteAuthorName = IntegerColumn("id"), StringColumn("name")
	sqliteAuthors                    = NewTable("", "authors", "", sqliteAuthorID, sqliteAuthorName)

	sqliteBookID, sqliteBookAuthor, sqliteBookTitle = IntegerColumn("id"), IntegerColumn("author_id"), StringColumn("title")
	sqliteBooks                                     = NewTable("", "books", "", sqliteBookID, sqliteBookAuthor, sqliteBookTitle)
)

// jetSQLite has the statements in the dialect of SQLite.
type jetSQLite struct{}

func (jetSQLite) addAuthor(name string) jetStatement {
	return sqliteAuthors.INSERT(sqliteAuthorName).VALUES(name)
}

func (jetSQLite) addBooks(author string, titles []string) jetStatement {
	insert := sqliteBooks.INSERT(sqliteBookAuthor, sqliteBookTitle)
	for _, title := range titles {
		insert = insert.VALUES(SELECT(sqliteAuthorID).FROM(sqliteAuthors).WHERE(sqliteAuthorName.EQ(String(author))), title)
	}
	return insert
}

func (jetSQLite) titles(author string) jetStatement {
	return SELECT(sqliteAuthorName, sqliteBookTitle).FROM(sqliteAuthors.INNER_JOIN(sqliteBooks, sqliteBookAuthor.EQ(sqliteAuthorID))).
		WHERE(sqliteAuthorName.EQ(String(author))).ORDER_BY(sqliteBookTitle)
}

func (jetSQLite) count() jetStatement {
	return SELECT(COUNT(STAR).AS("n")).FROM(sqliteBooks)
}
