package driver

import "strings"

// ControlStatement reports whether the query is a statement that begins or ends
// a transaction, and its keyword. Adapters refuse such: the core would not
// know. Going back to a savepoint is not one. Only the first statement of the
// text is looked at.
func ControlStatement(query string) (keyword string, is bool) {
	if len(query) > 1 && isLetter(query[0]) && !mayControl(query) {
		return "", false
	}
	word, rest := firstWord(query)
	switch {
	case isOneOf(word, "BEGIN", "COMMIT", "END", "ABORT"):
		return word, true
	case isOneOf(word, "START", "PREPARE"):
		next, _ := firstWord(rest)
		return word, isOneOf(next, "TRANSACTION")
	case isOneOf(word, "ROLLBACK"):
		next, rest := firstWord(rest)
		if isOneOf(next, "WORK", "TRANSACTION") {
			next, _ = firstWord(rest)
		}
		return word, !isOneOf(next, "TO")
	}
	return "", false
}

// mayControl looks at two letters, which tell most queries from the keywords of
// control: this is done for each statement.
func mayControl(query string) bool {
	switch [2]byte{query[0] | 0x20, query[1] | 0x20} {
	case [2]byte{'b', 'e'}, [2]byte{'c', 'o'}, [2]byte{'e', 'n'}, [2]byte{'a', 'b'}, [2]byte{'s', 't'}, [2]byte{'p', 'r'}, [2]byte{'r', 'o'}:
		return true
	}
	return false
}

func isOneOf(word string, keywords ...string) bool {
	for _, k := range keywords {
		if len(word) == len(k) && strings.EqualFold(word, k) {
			return true
		}
	}
	return false
}

// firstWord returns the first word, past white space and comments.
func firstWord(query string) (word, rest string) {
	for {
		query = strings.TrimLeft(query, " \t\r\n;")
		var ok bool
		switch {
		case strings.HasPrefix(query, "--"):
			_, query, ok = strings.Cut(query, "\n")
		case strings.HasPrefix(query, "/*"):
			_, query, ok = strings.Cut(query, "*/")
		default:
			end := 0
			for end < len(query) && isLetter(query[end]) {
				end++
			}
			return query[:end], query[end:]
		}
		if !ok {
			return "", ""
		}
	}
}

func isLetter(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' }
