package dsn

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// finder finds parts of secrets in texts.
type finder struct {
	length int             // of a part
	parts  map[string]bool // of that length, of all secrets as errors may show them
	short  []string        // whole secrets that are shorter
	words  map[string]bool // of a string that is unclear
	public []string
}

func (s *Source) finder() *finder {
	s.once.Do(func() {
		f := &s.finds
		f.length, f.parts, f.words, f.public = 4, map[string]bool{}, map[string]bool{}, s.public
		if s.unclear {
			f.length = 3
		}
		for _, secret := range s.secrets {
			for _, shown := range ways(secret) {
				f.learn(strings.ToLower(shown))
				if s.unclear {
					for _, word := range words(strings.ToLower(shown)) {
						f.words[word] = true
					}
				}
			}
		}
	})
	return &s.finds
}

func (f *finder) learn(secret string) {
	if 0 < len(secret) && len(secret) < f.length {
		f.short = append(f.short, secret)
	}
	for i := 0; i+f.length <= len(secret); i++ {
		f.parts[secret[i:i+f.length]] = true
	}
}

// in reports whether the text holds a part of a secret. What is public, and these
// words, are so even where the password is the same.
func (f *finder) in(text string, besides ...string) bool {
	text = strings.ToLower(text)
	public := publicIn(text, append(besides, f.public...))
	for i := 0; i+f.length <= len(text); i++ {
		if f.parts[text[i:i+f.length]] && !public(i, i+f.length) {
			return true
		}
	}
	for _, secret := range f.short {
		if slices.ContainsFunc(places(text, secret), func(p place) bool { return !public(p.from, p.to) }) {
			return true
		}
	}
	if len(f.words) == 0 {
		return false
	}
	from := 0
	for _, word := range words(text) {
		at := from + strings.Index(text[from:], word)
		from = at + len(word)
		if f.words[word] && !public(at, from) {
			return true
		}
	}
	return false
}

// publicIn returns a function that reports whether a piece of the text belongs to
// something public.
func publicIn(text string, all []string) func(from, to int) bool {
	var public []place
	for _, p := range all {
		public = append(public, places(text, strings.ToLower(p))...)
	}
	return func(from, to int) bool {
		return slices.ContainsFunc(public, func(p place) bool { return p.from <= from && to <= p.to })
	}
}

type place struct{ from, to int }

// places are those at which a piece is in the text that is not a piece of a longer
// word.
func places(text, piece string) (all []place) {
	for at := 0; piece != ""; {
		next := strings.Index(text[at:], piece)
		if next < 0 {
			break
		}
		p := place{at + next, at + next + len(piece)}
		begun := inWord(piece, 0) && inWord(text, p.from-1)
		goesOn := inWord(piece, len(piece)-1) && inWord(text, p.to)
		if !begun && !goesOn {
			all = append(all, p)
		}
		at = p.to
	}
	return all
}

// ways are those in which a secret is shown: as it was written, unescaped,
// escaped, quoted.
func ways(secret string) (all []string) {
	if secret == "" {
		return nil
	}
	plain := []string{secret, unescaped(secret), strings.ReplaceAll(unescaped(secret), "+", " "), strings.ReplaceAll(secret, `\`, "")}
	for _, p := range plain {
		quoted := strconv.Quote(p)
		all = append(all, p, quoted[1:len(quoted)-1], url.QueryEscape(p), url.PathEscape(p), url.UserPassword("", p).String()[1:],
			strings.ReplaceAll(p, "'", `\'`))
	}
	return all
}

// unescaped decodes what is escaped with %, and leaves the rest.
func unescaped(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) {
			if n, err := strconv.ParseUint(text[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

func inWord(text string, i int) bool {
	return 0 <= i && i < len(text) && (text[i] >= 0x80 || unicode.IsLetter(rune(text[i])) || unicode.IsDigit(rune(text[i])))
}
