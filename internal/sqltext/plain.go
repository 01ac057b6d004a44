package sqltext

import (
	"slices"
	"strings"
)

// committing are first words of statements of MariaDB and MySQL that commit the
// transaction before they do anything else, so that no error undoes that.
var committing = []string{
	"ALTER", "BACKUP", "CACHE", "CHANGE", "CHECK", "CREATE", "DROP", "FLUSH", "GRANT", "INSTALL", "LOCK",
	"OPTIMIZE", "RENAME", "REPAIR", "RESET", "REVOKE", "SHUTDOWN", "STOP", "START", "TRUNCATE", "UNINSTALL", "UNLOCK",
}

// plain are first words of statements of MariaDB and MySQL that end no transaction.
// Those that control one are for [Control].
var plain = []string{
	"SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "VALUES", "SHOW", "EXPLAIN", "DESCRIBE", "DESC", "DO",
	"SAVEPOINT", "RELEASE", "ROLLBACK",
}

// Suspicion is what the text lets one fear of statements on MariaDB and MySQL.
type Suspicion struct {
	Word string // the first word of the first of them
	// Commits tells that this one commits before it does anything else, as far
	// as such a thing can be known.
	Commits bool
}

// Suspicious looks for a statement that could end the transaction on MariaDB or MySQL:
// whatever is not plainly something else. See "SQL statements that cause an
// implicit commit", https://mariadb.com/kb/en/sql-statements-that-cause-an-implicit-commit/.
func Suspicious(text string) (s Suspicion, is bool) {
	if isSingle(text) && beginsPlainly(text) {
		return s, false
	}
	// What is executed in comments depends on the server's version, and what a
	// backslash does, on its settings.
	doubtful := strings.Contains(text, "/*!") || strings.Contains(text, "/*M!") || !isSingle(text) && strings.Contains(text, `\`)
	rules := MySQL.rules()[0]
	r := newReader(text, &rules)
	for {
		st, more := r.next()
		switch {
		case !more && doubtful:
			return s, true
		case !more:
			return s, false
		}
		w := st.firstWord()
		if s.Word == "" {
			s.Word = strings.ToUpper(w.text)
		}
		if st.opaque || !w.is(plain...) && !st.setsVariables(text) && (!isSingle(text) || !st.hasVariable()) {
			return Suspicion{strings.ToUpper(w.text), w.is(committing...) && !st.temporary()}, true
		}
	}
}

// beginsPlainly is for most texts: this is done for each statement.
func beginsPlainly(text string) bool {
	text = strings.TrimLeft(text, " \t\r\n(")
	n := 0
	for n < len(text) && isName(text[n]) {
		n++
	}
	return token{word, text[:n]}.is(plain...)
}

// firstWord returns the first, past parentheses.
func (st *statement) firstWord() token {
	for _, t := range st.head[:st.words] {
		if !t.isSymbol("(") {
			return t
		}
	}
	return token{}
}

// temporary reports whether the statement makes or drops a temporary table,
// which commits nothing.
func (st *statement) temporary() bool {
	return slices.ContainsFunc(st.head[1:st.words], func(t token) bool { return t.is("TEMPORARY") })
}

// hasVariable reports whether the statement reads or changes rows while a variable has
// a number for it alone, as SET STATEMENT makes it.
func (st *statement) hasVariable() bool {
	if !st.head[0].is("SET") || !st.head[1].is("STATEMENT") || st.head[2].kind != word || !st.head[3].isSymbol("=") {
		return false
	}
	rest := st.head[4:]
	for len(rest) > 2 && rest[0].kind == symbol && isDigit(rest[0].text[0]) {
		rest = rest[1:]
	}
	if !rest[0].is("FOR") {
		return false
	}
	for rest = rest[1:]; len(rest) > 1 && rest[0].isSymbol("("); {
		rest = rest[1:]
	}
	return rest[0].is("SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE")
}

// setsVariables reports whether a SET statement gives values to variables of the
// session or the user, and does nothing else.
func (st *statement) setsVariables(text string) bool {
	if !st.head[0].is("SET") || st.head[1].is("GLOBAL") {
		return false
	}
	text = strings.ToLower(text)
	return !slices.ContainsFunc([]string{"autocommit", "password", "role", "statement"}, func(w string) bool {
		return strings.Contains(text, w)
	})
}
