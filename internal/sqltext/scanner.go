package sqltext

import "strings"

// kind is what a token is.
type kind uint8

const (
	end kind = iota
	semicolon
	word   // a keyword, or a name without quotes
	quoted // a name in quotes, or a string
	symbol // anything else, byte by byte
)

type token struct {
	kind kind
	text string // of a quoted one without its quotes
}

// is reports whether the token is one of the keywords, which are in upper case.
func (t token) is(keywords ...string) bool {
	if t.kind != word {
		return false
	}
	for _, k := range keywords {
		if len(t.text) == len(k) && strings.EqualFold(t.text, k) {
			return true
		}
	}
	return false
}

func (t token) isSymbol(s string) bool { return t.kind == symbol && t.text == s }

// scanner cuts a text into tokens.
type scanner struct {
	*rules
	text     string
	pos      int
	executed bool // inside a comment that is executed
}

// next returns the next token. Control characters are white space here, which
// is more than any database says: those that are none are an error there.
func (s *scanner) next() token {
	for s.pos < len(s.text) {
		c, rest := s.text[s.pos], s.text[s.pos:]
		switch {
		case c <= ' ' || c == 0x7f:
			s.pos++
		case s.mark && strings.HasPrefix(rest, "\ufeff"):
			s.pos += len("\ufeff")
		case c == '#' && s.hash, strings.HasPrefix(rest, "--") && s.isDashes(rest):
			s.line()
		case strings.HasPrefix(rest, "/*"):
			s.comment(rest)
		case s.executed && strings.HasPrefix(rest, "*/"):
			s.executed = false
			s.pos += 2
		case c == ';':
			s.pos++
			return token{kind: semicolon}
		default:
			return s.plain(c, rest)
		}
	}
	return token{}
}

func (s *scanner) plain(c byte, rest string) token {
	switch {
	case isNameStart(c):
		n := 1
		for n < len(rest) && isName(rest[n]) {
			n++
		}
		s.pos += n
		if s.postgres && n == 1 && len(rest) > 1 && rest[1] == '\'' {
			switch c | 0x20 {
			case 'e':
				return s.quote('\'', true)
			case 'b', 'x':
				return s.quote('\'', false)
			}
		}
		return token{word, rest[:n]}
	case c == '\'':
		return s.quote('\'', s.escapes)
	case c == '"':
		return s.quote('"', s.namesEscape)
	case c == '`' && s.backticks:
		return s.quote('`', false)
	case c == '[' && s.brackets:
		name, _, _ := strings.Cut(rest[1:], "]")
		s.pos = min(s.pos+len(name)+2, len(s.text))
		return token{quoted, name}
	case c == '$' && s.postgres:
		return s.dollars(rest)
	case s.variables && strings.IndexByte("$@#:", c) >= 0:
		return s.variable(rest)
	}
	n := 1
	if strings.HasPrefix(rest, "@@") {
		n = 2
	}
	s.pos += n
	return token{symbol, rest[:n]}
}

// isDashes reports whether the two dashes begin a comment.
func (s *scanner) isDashes(rest string) bool {
	return !s.spacedDashes || len(rest) == 2 || rest[2] <= ' ' || rest[2] == 0x7f
}

// line moves to the end of the line.
func (s *scanner) line() {
	ends := "\n"
	if s.lineEnds {
		ends = "\r\n"
	}
	if n := strings.IndexAny(s.text[s.pos:], ends); n >= 0 {
		s.pos += n
		return
	}
	s.pos = len(s.text)
}

// comment moves past a comment, or into one that is executed.
func (s *scanner) comment(rest string) {
	depth := 1 // of comments in comments that count
	if s.nested {
		depth = len(rest)
	}
	if s.executable && (strings.HasPrefix(rest, "/*!") || strings.HasPrefix(rest, "/*M!")) {
		if s.execute {
			s.executed = true
			s.pos += strings.IndexByte(rest, '!') + 1
			s.pos += digits(s.text[s.pos:])
			return
		}
		depth = 2 // a comment that is left out may have others in it
	}
	open := 0
	for i := 0; i+1 < len(rest); i++ {
		switch {
		case rest[i] == '/' && rest[i+1] == '*' && open < depth:
			open++
			i++
		case rest[i] == '*' && rest[i+1] == '/':
			open--
			i++
		}
		if open == 0 {
			s.pos += i + 1
			return
		}
	}
	s.pos = len(s.text)
}

// digits counts those of the version in an executable comment: five or six.
// Fewer are part of what is executed.
func digits(text string) int {
	n := 0
	for n < len(text) && n < 6 && isDigit(text[n]) {
		n++
	}
	if n < 5 {
		return 0
	}
	return n
}

// quote moves past what the quote q opens here. PostgreSQL's strings may go on
// behind white space with a line's end in it; what a backslash means there is
// decided by where they began.
func (s *scanner) quote(q byte, escapes bool) token {
	from := s.pos + 1
	s.pos = s.closing(from, q, escapes)
	t := token{quoted, s.text[from:max(from, s.pos-1)]}
	for s.postgres && q == '\'' {
		next := s.pos + continued(s.text[s.pos:])
		if next == s.pos {
			break
		}
		s.pos = s.closing(next+1, q, escapes)
	}
	return t
}

// closing returns the place behind the closing quote. A quote that is doubled
// does not close.
func (s *scanner) closing(from int, q byte, escapes bool) int {
	for i := from; i < len(s.text); i++ {
		switch {
		case escapes && s.text[i] == '\\':
			i++
		case s.text[i] != q:
		case i+1 < len(s.text) && s.text[i+1] == q:
			i++
		default:
			return i + 1
		}
	}
	return len(s.text)
}

// continued returns the distance to the quote with which a string goes on, or 0.
func continued(rest string) int {
	lines := false
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '\n' || c == '\r':
			lines = true
		case c <= ' ':
		case c == '\'' && lines:
			return i
		case strings.HasPrefix(rest[i:], "--"):
			n := strings.IndexAny(rest[i:], "\r\n")
			if n < 0 {
				return 0
			}
			i += n - 1
		default:
			return 0
		}
	}
	return 0
}

// dollars moves past $tag$...$tag$, or past the dollar.
func (s *scanner) dollars(rest string) token {
	n := 1
	for n < len(rest) && rest[n] != '$' && isName(rest[n]) && (n > 1 || isNameStart(rest[n])) {
		n++
	}
	if n == len(rest) || rest[n] != '$' {
		s.pos++
		return token{symbol, rest[:1]}
	}
	tag, body := rest[:n+1], rest[n+1:]
	if length := strings.Index(body, tag); length >= 0 {
		s.pos += length + 2*len(tag)
		return token{quoted, body[:length]}
	}
	s.pos = len(s.text)
	return token{quoted, body}
}

// variable moves past a variable of SQLite's, whose name may have a part in
// parentheses that holds anything but white space.
func (s *scanner) variable(rest string) token {
	n := 1
	for n < len(rest) && (isName(rest[n]) || strings.HasPrefix(rest[n:], "::")) {
		if rest[n] == ':' {
			n++
		}
		n++
	}
	if n > 1 && n < len(rest) && rest[n] == '(' {
		if close := strings.IndexAny(rest[n:], ") \t\n\v\f\r\x00"); close >= 0 && rest[n+close] == ')' {
			n += close + 1
		}
	}
	s.pos += n
	return token{symbol, rest[:n]}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isNameStart(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' || c >= 0x80 }

func isName(c byte) bool { return isNameStart(c) || isDigit(c) || c == '$' }
