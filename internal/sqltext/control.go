package sqltext

import "strings"

// Marks is how the names of dbscope's own savepoints begin.
const Marks = "dbscope_"

// Control looks for a statement that begins or ends a transaction, or takes away
// a savepoint of dbscope's: in the text as each of the dialects reads it. It
// returns the keyword of the first, and the dialects that have one. Going back
// to a savepoint is not control.
func Control(dialects Dialect, text string) (keyword string, in Dialect) {
	single := isSingle(text)
	if single && !mayControl(text) || !single && !hasKeyword(text) {
		return "", 0
	}
	for d := PostgreSQL; d < Any; d <<= 1 {
		if d&dialects == 0 {
			continue
		}
		if k := d.control(text, single); k != "" {
			in |= d
			if keyword == "" {
				keyword = k
			}
		}
	}
	return keyword, in
}

// isSingle reports whether the text has no semicolon but one at its end, so that
// no dialect sees several statements in it.
func isSingle(text string) bool {
	i := strings.IndexByte(text, ';')
	return i < 0 || strings.Trim(text[i:], "; \t\r\n") == ""
}

// mayControl looks at the first letters of a text, which tell most from those
// that begin with a keyword of control: this is done for each statement.
func mayControl(text string) bool {
	text = strings.TrimLeft(text, " \t\n")
	for strings.HasPrefix(text, "-- ") { // a comment for all dialects, as sqlc writes them
		line, rest, _ := strings.Cut(text, "\n")
		if strings.IndexByte(line, '\r') >= 0 {
			return true
		}
		text = strings.TrimLeft(rest, " \t\n")
	}
	if len(text) < 3 {
		return true
	}
	switch a, b, c := text[0]|0x20, text[1]|0x20, text[2]|0x20; a {
	case 'a':
		return b == 'b' // ABORT
	case 'b':
		return b == 'e' // BEGIN
	case 'c':
		return b == 'o' // COMMIT
	case 'e':
		return b == 'n' // END
	case 'p':
		return b == 'r' // PREPARE TRANSACTION
	case 'r':
		return b == 'o' || b == 'e' && c == 'l' // ROLLBACK, RELEASE
	case 's':
		return b == 't' || b == 'a' || b == 'e' && c == 't' // START, SAVEPOINT, SET
	default:
		return a < 'a' || a > 'z'
	}
}

// hasKeyword reports whether a keyword of control is anywhere in the text, be it
// in a string or a comment: most texts with a semicolon in them have none.
func hasKeyword(text string) bool {
	for i := 0; i < len(text); i++ {
		if i > 0 && joins(text[i-1]) {
			continue
		}
		for _, k := range keywords[text[i]|0x20] {
			if len(text) >= i+len(k) && strings.EqualFold(text[i:i+len(k)], k) {
				return true
			}
		}
	}
	return false
}

// joins reports whether what follows the character is part of the same name in
// all dialects. A keyword may follow the digits of an executable comment, and
// SQLite's byte order mark, whose last byte is 0xbf.
func joins(c byte) bool { return isName(c) && !isDigit(c) && c != 0xbf }

// keywords are those of control by their first letter, in lower case.
var keywords = [256][]string{
	'a': {"abort", "autocommit"},
	'b': {"begin"},
	'c': {"commit"},
	'e': {"end"},
	'p': {"prepare"},
	'r': {"rollback", "release"},
	's': {"start", "savepoint"},
}

func (d Dialect) control(text string, single bool) string {
	for i, readings := 0, d.rules(); i < len(readings); i++ {
		r := newReader(text, &readings[i])
		r.headOnly = single
		for {
			st, more := r.next()
			if !more {
				break
			}
			if k := st.control(); k != "" {
				return k
			}
			if single {
				break
			}
		}
	}
	return ""
}

// mayControl reports whether a statement of control may begin with the token.
func (t token) mayControl() bool {
	return t.is("BEGIN", "COMMIT", "END", "ABORT", "START", "PREPARE", "SET", "ROLLBACK", "SAVEPOINT", "RELEASE")
}

// control returns the statement's keyword where it is one of control. Keywords
// that only other dialects have count too: they would be an error.
func (st *statement) control() string {
	first, rest := st.head[0], st.head[1:]
	switch {
	case first.is("BEGIN") && !st.opaque, first.is("COMMIT", "END", "ABORT"), first.is("START", "PREPARE") && rest[0].is("TRANSACTION"):
		return strings.ToUpper(first.text)
	case first.is("SET") && st.autocommit:
		return "SET autocommit"
	case first.is("ROLLBACK"):
		if rest[0].is("WORK", "TRANSACTION") {
			rest = rest[1:]
		}
		if !rest[0].is("TO") {
			return "ROLLBACK"
		}
		rest = rest[1:]
	case !first.is("SAVEPOINT", "RELEASE"):
		return ""
	}
	if rest[0].is("SAVEPOINT") && rest[1].kind != end {
		rest = rest[1:]
	}
	if name := rest[0].text; len(name) >= len(Marks) && strings.EqualFold(name[:len(Marks)], Marks) {
		return strings.ToUpper(first.text) + " " + name
	}
	return ""
}
