package libraries

import . "github.com/go-jet/jet/v2/mysql" //nolint:staticcheck // as its users do

// The tables are written here as jet would generate them from a database of MariaDB and MySQL.
var (
	mysqlAuthorID, mysqlAuthorName = IntegerColumn("id"), StringColumn("name")
	mysqlAuthors                   = NewTable("", "authors", "", mysqlAuthorID, mysqlAuthorName)

	mysqlBookID, mysqlBookAuthor, mysqlBookTitle = IntegerColumn("id"), IntegerColumn("author_id"), StringColumn("title")
	mysqlBooks                                   = NewTable("", "books", "", mysqlBookID, mysqlBookAuthor, mysqlBookTitle)
)

// jetMySQL has the statements in the dialect of MariaDB and MySQL.
type jetMySQL struct{}

func (jetMySQL) addAuthor(name string) jetStatement {
	return mysqlAuthors.INSERT(mysqlAuthorName).VALUES(name)
}

func (jetMySQL) addBooks(author string, titles []string) jetStatement {
	insert := mysqlBooks.INSERT(mysqlBookAuthor, mysqlBookTitle)
	for _, title := range titles {
		insert = insert.VALUES(SELECT(mysqlAuthorID).FROM(mysqlAuthors).WHERE(mysqlAuthorName.EQ(String(author))), title)
	}
	return insert
}

func (jetMySQL) titles(author string) jetStatement {
	return SELECT(mysqlAuthorName, mysqlBookTitle).FROM(mysqlAuthors.INNER_JOIN(mysqlBooks, mysqlBookAuthor.EQ(mysqlAuthorID))).
		WHERE(mysqlAuthorName.EQ(String(author))).ORDER_BY(mysqlBookTitle)
}

func (jetMySQL) count() jetStatement {
	return SELECT(COUNT(STAR).AS("n")).FROM(mysqlBooks)
}
