// Package dsn reads connection strings, of any driver, to keep what is secret in
// them out of errors. It never guesses: a string is read where its form is one of
// those below and every character in it can mean one thing only. Of any other
// string all is secret, for a password with a slash, a question mark or an @ in it
// ends up wherever a parser takes it for a host, a port or a database.
package dsn

import (
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
)

// Source is what is known of a connection string. The zero value is one of which
// nothing is known, not even the string. It is safe for concurrent use.
type Source struct {
	name    string   // of the database
	public  []string // what may be read by anybody
	secrets []string // what may not, nor any part of it
	unclear bool     // the secret is the whole string
	unknown bool     // there are secrets that are not in the string
	known   bool     // there is a string

	once  sync.Once
	finds finder
}

// host stands for {host} while a string is read.
const host = "host.invalid"

// Read reads a connection string of a database/sql driver of that name, in which
// {host} may stand for the host.
func Read(driverName, text string) *Source {
	filled := strings.ReplaceAll(text, "{host}", host)
	for _, read := range []func(s *Source, driverName, text string) bool{readURL, readWords, readMySQL, readFile} {
		s := &Source{known: true}
		if read(s, driverName, filled) {
			return s.named()
		}
	}
	return &Source{known: true, unclear: true, secrets: []string{text}}
}

// named leaves out a name that is not plain, or a part of a secret.
func (s *Source) named() *Source {
	secrets := &Source{secrets: s.secrets}
	if !safeName.MatchString(s.name) || strings.Contains(s.name, host) || secrets.finder().in(s.name) {
		s.name = ""
	}
	return s
}

// With is the source with secrets from elsewhere.
func (s *Source) With(secrets ...string) *Source {
	more := &Source{name: s.name, public: s.public, unclear: s.unclear, unknown: s.unknown, known: true}
	more.secrets = append(append(more.secrets, s.secrets...), secrets...)
	return more
}

// Name returns the name of the database, or "" where it is not plain.
func (s *Source) Name() string { return s.name }

// safeName is what a database is called in errors.
var safeName = regexp.MustCompile(`^[\w:.+$-]{1,63}$`)

// add takes a parameter, whose value was escaped. One that is not known to be public
// is secret, and so is its name: it may be the rest of a password.
func (s *Source) add(key, value, escaped string) {
	key = strings.ToLower(key)
	switch {
	case key == "service" || key == "servicefile":
		s.unknown = true // a file with passwords, whose lines may be in errors
	case !publicKeys[key] || !plain.MatchString(value):
		s.secrets = append(s.secrets, value, escaped)
		if key != "password" && key != "sslpassword" && !publicKeys[key] {
			s.secrets = append(s.secrets, key)
		}
	case key == "dbname" || key == "database":
		s.name = value
		s.public = append(s.public, value)
	case key == "host" || key == "hostaddr" || key == "user":
		s.public = append(s.public, value)
	}
}

// ambient adds the secrets that PostgreSQL's libraries take from elsewhere. Of
// them pgx alone does not show the lines of a service file.
func (s *Source) ambient(driverName string) {
	if pw := os.Getenv("PGPASSWORD"); pw != "" {
		s.secrets = append(s.secrets, pw)
	}
	s.unknown = driverName != "pgx" && (s.unknown || os.Getenv("PGSERVICE") != "")
}

// plain is a value that cannot be a part of something else.
var plain = regexp.MustCompile(`^[\w.,:/\[\]$~+%-]*$`)

// parameters reads those of a URL.
func (s *Source) parameters(query string) bool {
	if query == "" {
		return true
	}
	for pair := range strings.SplitSeq(query, "&") {
		key, value, has := strings.Cut(pair, "=")
		k, err := url.QueryUnescape(key)
		v, err2 := url.QueryUnescape(value)
		if !has || err != nil || err2 != nil {
			return false
		}
		s.add(k, v, value)
	}
	return true
}

func set(words string) map[string]bool {
	all := map[string]bool{}
	for word := range strings.FieldsSeq(words) {
		all[word] = true
	}
	return all
}

// publicKeys are parameters without secrets of libpq, pgx, pgxpool, lib/pq,
// go-sql-driver/mysql and the drivers of SQLite, and settings of PostgreSQL that
// are often given. Their names and values may be in errors.
var publicKeys = set(`
	host hostaddr port dbname database user passfile require_auth channel_binding connect_timeout client_encoding application_name
	fallback_application_name keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout replication gssencmode
	ssl sslmode requiressl sslnegotiation sslcompression sslcert sslkey sslcertmode sslrootcert sslcrl sslsni sslinline krbsrvname
	krbspn gsslib target_session_attrs load_balance_hosts min_protocol_version max_protocol_version ssl_min_protocol_version
	ssl_max_protocol_version pool_max_conns pool_min_conns pool_min_idle_conns pool_max_conn_lifetime pool_max_conn_idle_time
	pool_health_check_period pool_max_conn_lifetime_jitter default_query_exec_mode statement_cache_capacity
	description_cache_capacity binary_parameters disable_prepared_binary_result search_path statement_timeout lock_timeout
	idle_in_transaction_session_timeout timezone datestyle role default_transaction_isolation default_transaction_read_only
	synchronous_commit yb_read_from_followers
	parsetime loc charset collation timeout readtimeout writetimeout tls multistatements interpolateparams clientfoundrows
	columnswithalias rejectreadonly checkconnliveness maxallowedpacket allownativepasswords allowcleartextpasswords
	allowoldpasswords allowallfiles timetruncate compress sql_mode transaction_isolation
	mode cache vfs immutable nolock psow _txlock _busy_timeout _timeout _journal_mode _journal _foreign_keys _fk _synchronous _sync
	_loc _time_format _time_integer_format _texttotime _inttotime _cache_size _mutex _pragma
`)
