// Package sqltext reads SQL as far as it takes to know which statements a text
// holds: it knows what is a comment, a string or a name in each database, where
// a statement ends, and by which words it begins. It keeps a unit's transaction
// from being ended by text, so where a text cannot be told from one that ends
// it, the package decides that it does.
package sqltext

// Dialect is a set of ways in which a text can be read.
type Dialect uint8

// The ways to read a text.
const (
	PostgreSQL        Dialect = 1 << iota // with standard_conforming_strings on, which is the default
	PostgreSQLEscapes                     // with standard_conforming_strings off
	MySQL                                 // and MariaDB
	SQLite

	Any = PostgreSQL | PostgreSQLEscapes | MySQL | SQLite
)

// rules are what a dialect does with the characters of a text.
type rules struct {
	nested       bool // comments are part of comments
	lineEnds     bool // a carriage return ends a -- comment
	hash         bool // # begins a comment
	spacedDashes bool // -- begins a comment only with white space behind it
	executable   bool // /*! and /*M! begin comments that may be executed
	execute      bool // and they are
	escapes      bool // a backslash takes the meaning from a quote in '...'
	namesEscape  bool // and in "..."
	postgres     bool // E'...', B'...', $$...$$, strings that go on in another line
	backticks    bool // `...` is a name
	brackets     bool // [...] is a name
	variables    bool // $a(...) is a variable, whatever is inside
	mark         bool // a byte order mark is white space
}

// of lists the ways to read a text. MySQL and MariaDB have two, for what the
// text does not show is the server's version: executable comments count, or
// they do not.
func (d Dialect) rules() []rules {
	switch d {
	case PostgreSQL:
		return readings[0:1]
	case PostgreSQLEscapes:
		return readings[1:2]
	case SQLite:
		return readings[2:3]
	case MySQL:
		return readings[3:5]
	}
	return nil
}

var readings = []rules{
	{nested: true, lineEnds: true, postgres: true},
	{nested: true, lineEnds: true, postgres: true, escapes: true},
	{backticks: true, brackets: true, variables: true, mark: true},
	{hash: true, spacedDashes: true, executable: true, execute: true, escapes: true, namesEscape: true, backticks: true},
	{hash: true, spacedDashes: true, executable: true, escapes: true, namesEscape: true, backticks: true},
}
