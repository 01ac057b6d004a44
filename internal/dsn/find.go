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
	words  map[string]bool // whole secrets that are shorter; of an unclear string its words
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
		f.words[secret] = true
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
// something public, which is not itself a piece of something longer.
func publicIn(text string, all []string) func(from, to int) bool {
	var pieces [][2]int
	for _, public := range all {
		public = strings.ToLower(public)
		for at := 0; public != ""; {
			next := strings.Index(text[at:], public)
			if next < 0 {
				break
			}
			from, to := at+next, at+next+len(public)
			if !inWord(text, from-1) && !inWord(text, to) {
				pieces = append(pieces, [2]int{from, to})
			}
			at = to
		}
	}
	return func(from, to int) bool {
		return slices.ContainsFunc(pieces, func(p [2]int) bool { return p[0] <= from && to <= p[1] })
	}
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
