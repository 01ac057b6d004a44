package dsn

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Mask returns the error of opening a pool or a connection as anybody may see it.
// Where neither the error nor anything that it wraps tells of a secret, however it
// is printed, it is the same. Else it is one that wraps what may be seen.
func (s *Source) Mask(err error) error {
	if err == nil {
		return nil
	}
	if !s.known {
		return maskUnknown(err)
	}
	if s.tells(err) {
		return s.masked(err)
	}
	return err
}

// masked leaves out the errors that hold a secret, and keeps those which they
// wrap and that do not. An error with a safe text is left out too, where a field of
// it has the connection string, as of [pgconn.ParseConfigError]: it would be
// printed with %#v.
func (s *Source) masked(err error) error {
	m := &maskedError{wraps: s.safe(err)}
	if text := err.Error(); s.shows(err) && !s.finder().in(text) {
		m.text = text
		return m
	}
	m.text = fmt.Sprintf("the error of the driver, a %T, is not shown, since a part of the password may be in it", err)
	if s.unclear {
		m.text += " (check the connection string: it is of no form that can be read without doubt; in a URL such characters as " +
			"@ : / ? # % and spaces have to be escaped in the password)"
	}
	var texts []string
	for _, safe := range m.wraps {
		if text := safe.Error(); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	if more := s.about(err); more != "" {
		texts = append(texts, more)
	}
	if len(texts) > 0 {
		m.text += ": " + strings.Join(texts, "; ")
	}
	return m
}

type maskedError struct {
	text  string
	wraps []error
}

func (e *maskedError) Error() string   { return e.text }
func (e *maskedError) Unwrap() []error { return e.wraps }

// tells reports whether the error, or one that it wraps, holds a secret.
func (s *Source) tells(err error) bool {
	return !s.holdsNone(err) || slices.ContainsFunc(wrapped(err), s.tells)
}

// holdsNone looks at an error by itself.
func (s *Source) holdsNone(err error) bool {
	f := s.finder()
	return isFixed(err) || s.shows(err) && !f.in(err.Error()) && !f.in(fmt.Sprintf("%+v", err)) &&
		!f.in(pointers.ReplaceAllString(fmt.Sprintf("%#v", err), ""), words(names(err))...)
}

// shows reports whether a text of the error may be looked at to tell whether it
// holds a secret: not where secrets are not known, unless it is the server's.
func (s *Source) shows(err error) bool {
	_, server := err.(interface{ SQLState() string })
	return !s.unknown || server
}

// pointers are types of pointers and addresses in memory, which tell nothing.
var pointers = regexp.MustCompile(`\(\*?[\w./*\[\]-]+\)\((?:nil|0x[0-9a-f]+)\)|0x[0-9a-f]+`)

// names has those of an error's type and of its fields, which tell nothing either.
func names(err error) string {
	t := reflect.TypeOf(err)
	if t.Kind() == reflect.Pointer {
		return fmt.Sprintf("%#v", reflect.New(t.Elem()).Interface())
	}
	return fmt.Sprintf("%#v", reflect.Zero(t).Interface())
}

// safe returns the outermost errors in err that hold no secret.
func (s *Source) safe(err error) (errs []error) {
	for _, inner := range wrapped(err) {
		if s.tells(inner) {
			errs = append(errs, s.safe(inner)...)
		} else {
			errs = append(errs, inner)
		}
	}
	return errs
}

// about tells what is known of an error that is left out.
func (s *Source) about(err error) string {
	if e := (interface{ SQLState() string })(nil); errors.As(err, &e) && sqlState.MatchString(e.SQLState()) {
		return "SQLSTATE " + e.SQLState()
	}
	if e := (*net.DNSError)(nil); errors.As(err, &e) && e.IsNotFound {
		return "no such host"
	}
	return ""
}

var sqlState = regexp.MustCompile(`^[0-9A-Z]{5}$`)

func wrapped(err error) []error {
	switch e := err.(type) { //nolint:errorlint // it is what errors.As does
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return []error{inner}
		}
	case interface{ Unwrap() []error }:
		return e.Unwrap()
	}
	return nil
}

// isFixed reports whether the text of an error is always the same.
func isFixed(err error) bool {
	if _, is := err.(syscall.Errno); is { //nolint:errorlint // by itself
		return true
	}
	return slices.ContainsFunc(fixed, func(f error) bool { return err == f }) //nolint:errorlint // by itself
}

var fixed = []error{
	context.Canceled, context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, fs.ErrNotExist, fs.ErrPermission, net.ErrClosed,
	os.ErrDeadlineExceeded, sqldriver.ErrBadConn, sql.ErrConnDone, strconv.ErrSyntax, strconv.ErrRange,
}

// maskUnknown masks the error of a function of the user's, whose connection string
// is not known: where an error in it has one, or where it is one with which a
// driver quotes a string that it could not read.
func maskUnknown(err error) error {
	if _, masked := err.(*maskedError); masked { //nolint:errorlint // by itself
		return err
	}
	for _, text := range quoted(err) {
		err = Read("pgx", text).Mask(err)
	}
	return err
}

// quoted returns the connection strings, or pieces of them, that errors have.
func quoted(err error) (texts []string) {
	if e, is := err.(*url.Error); is && e.Op == "parse" { //nolint:errorlint // by itself
		texts = append(texts, e.URL)
	}
	if v := reflect.Indirect(reflect.ValueOf(err)); v.Kind() == reflect.Struct {
		if f := v.FieldByName("ConnString"); f.IsValid() && f.Kind() == reflect.String {
			return append(texts, f.String())
		}
	}
	if quotes.MatchString(err.Error()) {
		texts = append(texts, err.Error())
	}
	for _, inner := range wrapped(err) {
		texts = append(texts, quoted(inner)...)
	}
	return texts
}

// quotes are the first words of errors of lib/pq and go-sql-driver/mysql that go on
// with a part of a string they could not read.
var quotes = regexp.MustCompile(`^(?:pq: wrong value|pq: unsupported|missing "=" after|invalid connection protocol|pq: unknown|` +
	`invalid bool value|invalid value|invalid dbname|invalid connectionAttributes|invalid timeTruncate|default addr for network|time: invalid duration|unknown time zone|strconv\.)`)
