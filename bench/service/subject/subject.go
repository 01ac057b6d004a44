// Package subject has the ways to answer a request from a database that the
// benchmarks compare: the same three requests, by hand and with libraries.
package subject

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Config says where a subject finds its database.
type Config struct {
	Name  string // of the subject, one of [Names]
	DB    string // Postgres or MariaDB
	DSN   string
	Conns int // how many connections its pool has, neither more nor fewer
}

// The databases.
const (
	Postgres = "postgres"
	MariaDB  = "mariadb"
)

// Subject is an open one.
type Subject struct {
	// Handler answers "GET /read/{id}", "POST /write/{id}" and
	// "POST /mixed/{id}" with a number. An id stands for eight rows from that
	// one on.
	Handler http.Handler
	// Close closes its pool.
	Close func() error
}

// opener opens a subject.
type opener struct {
	name   string
	byHand string                                                           // the subject that uses the same library by hand
	open   map[string]func(ctx context.Context, c Config) (*Subject, error) // by database
	about  string                                                           // what it is, as the end of a sentence
	ours   bool                                                             // it uses dbscope
	only   []string                                                         // the works that it does otherwise than another subject, or all
	// autocommit marks one that has no transaction around its statements.
	autocommit bool
}

// Names lists the subjects of a database, in the order of the tables.
func Names(db string) []string {
	var names []string
	for _, o := range all {
		if o.open[db] != nil {
			names = append(names, o.name)
		}
	}
	return names
}

// Autocommit is true for a subject without transactions.
func Autocommit(name string) bool {
	return slices.ContainsFunc(all, func(o opener) bool { return o.name == name && o.autocommit })
}

// About says what a subject is, in the words of a table.
func About(name string) string {
	for _, o := range all {
		if o.name == name {
			return o.about
		}
	}
	return ""
}

// Does is false for a kind of request that a subject would answer as another
// one does.
func Does(name, work string) bool {
	return slices.ContainsFunc(all, func(o opener) bool {
		return o.name == name && (o.only == nil || slices.Contains(o.only, work))
	})
}

// Ours is true for a subject that uses dbscope.
func Ours(name string) bool {
	return slices.ContainsFunc(all, func(o opener) bool { return o.name == name && o.ours })
}

// ByHand names the subject that does the same with the same library by hand.
func ByHand(name string) string {
	for _, o := range all {
		if o.name == name {
			return o.byHand
		}
	}
	return ""
}

// Baseline names what all subjects of a database are compared with.
func Baseline(db string) string {
	if db == Postgres {
		return pgxHand
	}
	return sqlHand
}

// Open opens a subject. Its connections are made at once.
func Open(ctx context.Context, c Config) (*Subject, error) {
	for _, o := range all {
		if open := o.open[c.DB]; o.name == c.Name && open != nil {
			s, err := open(ctx, c)
			if err != nil {
				return nil, fmt.Errorf("subject: opening %s: %w", c.Name, err)
			}
			return s, nil
		}
	}
	return nil, fmt.Errorf("subject: %s knows no %q, but %s", c.DB, c.Name, strings.Join(Names(c.DB), ", "))
}
