package driver

import "github.com/dbscope/dbscope/internal/sqltext"

// Dialect is a set of ways in which databases read SQL text: what is a comment
// or a string in it, and where a statement ends.
type Dialect uint8

// The ways to read a text.
const (
	PostgreSQL        = Dialect(sqltext.PostgreSQL)        // with standard_conforming_strings on, the default
	PostgreSQLEscapes = Dialect(sqltext.PostgreSQLEscapes) // with standard_conforming_strings off
	MySQL             = Dialect(sqltext.MySQL)             // and MariaDB
	SQLite            = Dialect(sqltext.SQLite)
	AnyDialect        = Dialect(sqltext.Any) // what any of them does
)

// ControlStatement looks for a statement that begins or ends a transaction, or
// names a savepoint of dbscope's, anywhere in a text that the dialects read. It
// returns the keyword of the first, and the dialects in which there is one: 0
// where there is none. Adapters refuse such texts, since the core would not
// know. Going back to a savepoint of the user's is not one. It does no I/O.
func ControlStatement(dialects Dialect, text string) (keyword string, in Dialect) {
	keyword, found := sqltext.Control(sqltext.Dialect(dialects), text)
	return keyword, Dialect(found)
}
