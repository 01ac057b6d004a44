package settle

import (
	"context"
	"fmt"
	"strings"

	"github.com/dbscope/dbscope/driver"
)

// Picky is a [Settler] that does not work on every database.
type Picky interface {
	// Possible asks the database, outside of a transaction, and returns an error that
	// says what to use instead. It asks each host once.
	Possible(ctx context.Context, conn driver.Conn, host string) error
}

// Possible implements [Picky]: some databases speak PostgreSQL's protocol, and have the
// functions under its names, but their ids of transactions are another thing.
func (s *ByStatus) Possible(ctx context.Context, conn driver.Conn, host string) error {
	if _, known := s.hosts.Load(host); known {
		return nil
	}
	err := isPostgreSQL(ctx, conn)
	if err == nil {
		s.hosts.Store(host, true)
	}
	return err
}

func isPostgreSQL(ctx context.Context, conn driver.Conn) error {
	const instead = "use SettleByLedger, which works on every database"
	row, err := conn.FirstRow(ctx, "SELECT version()")
	switch {
	case err != nil:
		return fmt.Errorf("SettleByStatus takes PostgreSQL, and the database does not say which one it is; %s: %w", instead, err)
	case len(row) == 1 && strings.HasPrefix(row[0], "PostgreSQL ") && relative(row[0]) == "":
		return nil
	case len(row) == 1:
		name := relative(row[0])
		if name == "" {
			name = "another database (" + row[0] + ")"
		}
		return fmt.Errorf("SettleByStatus takes PostgreSQL itself, for which pg_xact_status knows what became of a transaction, and this is %s: %s",
			name, instead)
	}
	return fmt.Errorf("SettleByStatus takes PostgreSQL, and the database does not say which one it is: %s", instead)
}

// relative names what is not PostgreSQL by its version, or returns nothing.
func relative(version string) string {
	for mark, name := range map[string]string{
		"-YB-": "YugabyteDB", "CockroachDB": "CockroachDB", "Redshift": "Amazon Redshift", "Greenplum": "Greenplum", "Materialize": "Materialize",
	} {
		if strings.Contains(version, mark) {
			return name
		}
	}
	return ""
}
