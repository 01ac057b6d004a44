package follow

import "strings"

// fingerprint is the same for statements that differ in nothing but numbers and quoted
// texts, so that a query is known again into which values were pasted.
func fingerprint(text string) uint64 {
	const prime = 1099511628211
	sum := uint64(14695981039346656037)
	add := func(c byte) { sum = (sum ^ uint64(c)) * prime }
	word := false // so that the 1 of table1 stays
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\'':
			if end := strings.IndexByte(text[i+1:], '\''); end >= 0 {
				i += end + 1
			} else {
				i = len(text)
			}
			add('?')
		case '0' <= c && c <= '9' && !word:
			for i+1 < len(text) && (text[i+1] >= '0' && text[i+1] <= '9' || text[i+1] == '.') {
				i++
			}
			add('?')
		default:
			add(c)
		}
		word = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '$' || word && c >= '0' && c <= '9'
	}
	return sum
}

// isQuery reports whether a statement reads, as far as its first word tells.
func isQuery(text string) bool {
	text = strings.TrimLeft(text, " \t\r\n(")
	for _, word := range [...]string{"select", "with", "table", "values"} {
		if len(text) > len(word) && strings.EqualFold(text[:len(word)], word) {
			return true
		}
	}
	return false
}
