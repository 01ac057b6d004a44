package dsn

import (
	"net/url"
	"regexp"
	"strings"
)

// In a URL that is plain nothing has to be guessed: user and password have no
// character that could end them, there is one @ at most, and ports are numbers.
var plainURL = regexp.MustCompile(`^([a-z][a-z0-9+]*)://` +
	`(?:((?:[\w.~!$&*+,;=-]|%[0-9A-Fa-f]{2})*)(:(?:[\w.~!$&*+,;=-]|%[0-9A-Fa-f]{2})*)?@)?` +
	`((?:[\w.-]|%[0-9A-Fa-f]{2}|\[[0-9A-Fa-f:.%\w]*\])*(?::[0-9]{1,5})?(?:,(?:[\w.-]|\[[0-9A-Fa-f:.%\w]*\])*(?::[0-9]{1,5})?)*)` +
	`(/(?:[\w.~$+-]|%[0-9A-Fa-f]{2})*)?` +
	`(?:\?([\w.~!$&*+,;=:/%()-]*))?$`)

// readURL reads a URL of PostgreSQL. Of another one just the host is public.
func readURL(s *Source, driverName, text string) bool {
	m := plainURL.FindStringSubmatch(text)
	if m == nil {
		return false
	}
	scheme, user, password, hosts, path, query := m[1], m[2], strings.TrimPrefix(m[3], ":"), m[4], strings.TrimPrefix(m[5], "/"), m[6]
	s.public = append(s.public, strings.Split(hosts, ",")...)
	s.secrets = append(s.secrets, password)
	if scheme != "postgres" && scheme != "postgresql" {
		s.secrets = append(s.secrets, user, path, query)
		return true
	}
	database, err := url.PathUnescape(path)
	if err != nil || !s.parameters(query) {
		return false
	}
	s.public = append(s.public, user)
	if s.name == "" {
		s.add("dbname", database, path)
	}
	s.ambient(driverName)
	return true
}

// word is one keyword of PostgreSQL with its value.
var word = regexp.MustCompile(`^[ \t\r\n]*([A-Za-z_][\w.]*)=('(?:[^'\\]|\\['\\])*'|[^ \t\r\n\v\f'"\\;]*)(?:[ \t\r\n]+|$)`)

// readWords reads keywords and values of PostgreSQL.
func readWords(s *Source, driverName, text string) bool {
	seen := map[string]bool{}
	for text != "" {
		m := word.FindStringSubmatch(text)
		if m == nil || seen[m[1]] {
			return false // a word that comes twice may be in a password
		}
		text = text[len(m[0]):]
		seen[m[1]] = true
		value, quoted := strings.CutPrefix(m[2], "'")
		if quoted {
			value = strings.NewReplacer(`\\`, `\`, `\'`, `'`).Replace(strings.TrimSuffix(value, "'"))
		}
		s.add(m[1], value, m[2])
	}
	s.ambient(driverName)
	return seen["host"] || seen["dbname"] || seen["database"] || seen["user"]
}

// plainMySQL is a data source name of go-sql-driver/mysql, which looks for the
// last slash and the last @ before it: after them nothing may look like another
// one. The network is one that it knows, or the text may be a password.
var plainMySQL = regexp.MustCompile(`(?s)^(?:([^:@/]*)(?::(.*))?@)?(?:tcp|unix)\(([^()@]*)\)/((?:[\w.$-]|%[0-9A-Fa-f]{2})*)(?:\?([^/@()?#]*))?$`)

func readMySQL(s *Source, _, text string) bool {
	m := plainMySQL.FindStringSubmatch(text)
	if m == nil || !s.parameters(m[5]) {
		return false
	}
	s.public = append(s.public, m[1], m[3])
	s.secrets = append(s.secrets, m[2])
	name, err := url.PathUnescape(m[4])
	s.add("dbname", name, m[4])
	return err == nil
}

// plainFile is a file of SQLite, or its URI.
var plainFile = regexp.MustCompile(`^(file:)?(:memory:|(?:[A-Za-z]:)?[\w. /\\~+,()-]*)(?:\?([^?#@]*))?$`)

// readFile reads the name of a file, for a driver of SQLite or as SQLite's URI.
func readFile(s *Source, driverName, text string) bool {
	m := plainFile.FindStringSubmatch(text)
	if m == nil || m[1] == "" && m[2] != ":memory:" && !strings.Contains(driverName, "sqlite") {
		return false
	}
	for pair := range strings.SplitSeq(m[3], "&") {
		key, value, _ := strings.Cut(pair, "=")
		k, err := url.QueryUnescape(key)
		v, err2 := url.QueryUnescape(value)
		if err != nil || err2 != nil {
			return false
		}
		if publicKeys[k] && pragma.MatchString(v) && !strings.Contains(strings.TrimPrefix(v, "foreign_keys"), "key") {
			continue
		}
		s.secrets = append(s.secrets, k, v, value)
	}
	s.public = append(s.public, m[2])
	s.name = m[2][strings.LastIndexAny(m[2], `/\`)+1:]
	return true
}

// pragma is a value, or a PRAGMA with one. That of an encrypted file is its key.
var pragma = regexp.MustCompile(`^\w+(?: ?[(=] ?-?\w+\)?)?$`)
