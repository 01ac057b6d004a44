package sqltext

import "strings"

// headSize is the number of tokens that tell what a statement is.
const headSize = 12

// statement is what there is to know of one.
type statement struct {
	head       [headSize]token // how it begins
	words      int             // in head
	autocommit bool            // it assigns MySQL's variable of this name
	opaque     bool            // the rest of the text cannot be told apart from it
}

// reader reads a text statement by statement.
type reader struct {
	scanner
	headOnly bool // there is one statement, and its beginning is enough
}

func newReader(text string, r *rules) reader { return reader{scanner: scanner{rules: r, text: text}} }

// next returns the next statement that is not empty.
func (r *reader) next() (st statement, more bool) {
	var last [3]token // before this one, the latest first
	depth := 0        // of parentheses
	body := false     // between BEGIN and END, where semicolons do not end it
	for {
		t := r.scanner.next()
		switch {
		case t.kind == end:
			return st, st.words > 0
		case t.kind != semicolon:
		case !body && st.words > 0:
			return st, true
		}
		if t.kind == semicolon && st.words == 0 {
			continue
		}
		full := st.words == headSize
		if !full {
			st.head[st.words] = t
			st.words++
			if r.headOnly && (st.words == 1 && !t.mayControl() || st.words == headSize && !st.head[0].is("SET")) {
				return st, true
			}
		}
		switch {
		case t.isSymbol("("):
			depth++
		case t.isSymbol(")"):
			depth--
		case body:
			body = !t.is("END") || last[0].kind != semicolon && !last[0].is("ATOMIC")
		case r.executable:
			if !full && st.opensBlock() {
				st.opaque, r.pos = true, len(r.text)
				return st, true
			}
			st.autocommit = st.autocommit || assignsAutocommit(last, t)
		case r.postgres:
			body = depth == 0 && t.is("ATOMIC") && last[0].is("BEGIN") && st.makesFunction()
		default:
			body = t.is("BEGIN") && st.makesTrigger()
		}
		last = [3]token{t, last[0], last[1]}
	}
}

// makesFunction reports whether the statement makes one of PostgreSQL's, whose
// body may be statements between BEGIN ATOMIC and END.
func (st *statement) makesFunction() bool {
	i := 1
	if st.head[1].is("OR") {
		i = 3
	}
	return st.head[0].is("CREATE") && st.head[i].is("FUNCTION", "PROCEDURE")
}

// makesTrigger reports whether the statement makes one of SQLite's.
func (st *statement) makesTrigger() bool {
	i := 1
	if st.head[1].is("TEMP", "TEMPORARY") {
		i = 2
	}
	return st.head[0].is("CREATE") && st.head[i].is("TRIGGER")
}

// opensBlock reports whether the statement, as far as it has been read, has or
// may have a block of MySQL or MariaDB in it, whose ends and semicolons are hard
// to follow. Where it is in a program, making that commits at once; a block to
// be executed is not plain.
func (st *statement) opensBlock() bool {
	first, last := st.head[0], st.head[st.words-1]
	switch {
	case st.words == 1:
		return first.is("IF", "CASE", "LOOP", "WHILE", "REPEAT", "FOR", "DECLARE")
	case st.words == 2 && first.kind != symbol && last.isSymbol(":"): // a label
		return true
	case first.is("BEGIN"):
		return st.words == 3 && st.head[1].is("NOT") && last.is("ATOMIC")
	case !first.is("CREATE"):
		return false
	case st.words > 2 && !st.head[1].is("OR", "DEFINER", "AGGREGATE"):
		return false
	}
	return last.is("PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE")
}

// assignsAutocommit reports whether the sign gives the session's autocommit,
// which came before it, a value. A variable with one @ is the user's own.
func assignsAutocommit(last [3]token, sign token) bool {
	if !sign.isSymbol("=") && !sign.isSymbol(":") {
		return false
	}
	name, before := last[0], last[1]
	if before.isSymbol(".") {
		before = last[2]
	}
	return (name.kind == word || name.kind == quoted) && strings.EqualFold(name.text, "autocommit") &&
		!before.is("GLOBAL") && !before.isSymbol("@")
}
