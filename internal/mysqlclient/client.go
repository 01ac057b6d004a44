// Package mysqlclient runs statements on servers of MariaDB and MySQL by the client
// that comes with them, apart from any driver under test.
package mysqlclient

import (
	"strconv"
	"strings"

	"github.com/dbscope/dbscope/internal/child"
)

// Client is the administrator's client of a server.
type Client struct {
	Kind    *child.Kind
	Server  *child.Server
	Program string // its path
}

// Create creates an empty database.
func (c Client) Create(name string) error {
	_, err := c.Query("", "CREATE DATABASE "+name)
	return err
}

// Drop drops a database. A transaction that is open on it would be waited for.
func (c Client) Drop(name string) error {
	ids, err := c.Query("", "SELECT id FROM information_schema.processlist WHERE db = '"+name+"'")
	if err != nil {
		return err
	}
	for id := range strings.FieldsSeq(ids) {
		_, _ = c.Query("", "KILL "+id) // fails where it has gone by itself
	}
	_, err = c.Query("", "DROP DATABASE IF EXISTS "+name)
	return err
}

// Query returns the rows of the statements, one a line with the columns separated by
// "|". The database may be "".
func (c Client) Query(database, statements string) (string, error) {
	out, err := c.Kind.Query(statements, c.Kind.Environment(), c.Program, "--no-defaults", "--protocol=tcp", "--host=127.0.0.1",
		"--port="+strconv.Itoa(c.Server.Port()), "--user=root", "--connect-timeout=10",
		"--batch", "--skip-column-names", "--execute="+statements, database)
	return strings.ReplaceAll(out, "\t", "|"), err
}
