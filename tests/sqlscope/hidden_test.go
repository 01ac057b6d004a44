package sqlscope_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// hidden are texts that end the transaction on one database at least, and do
// not look like it.
var hidden = []string{
	"\fCOMMIT",
	"\v\fcommit",
	"\ufeffCOMMIT",
	"/* /* */ */ COMMIT",
	"/*/*/COMMIT",
	"-- a carriage return ends this\rCOMMIT",
	"--no comment\nCOMMIT",
	"# a comment\nBEGIN",
	"#;\nCOMMIT",
	"/*! BEGIN */",
	"/*!50000 COMMIT */",
	"/*M!100000 COMMIT */",
	"/*!99999 ' */ COMMIT -- '",
	"SELECT 1; COMMIT",
	"SELECT 1;COMMIT AND CHAIN",
	"SELECT 1;;\n/* ; */ COMMIT; BEGIN",
	"SELECT 1; ROLLBACK; BEGIN",
	"SELECT 1; ROLLBACK AND CHAIN",
	"SELECT 1; END TRANSACTION; BEGIN TRANSACTION",
	"SELECT 1; START TRANSACTION",
	"SELECT 'it''s'; COMMIT",
	`SELECT '\'; COMMIT; -- '`,
	`SELECT E'\''; COMMIT`,
	"SELECT e'a'\n'\\'' ; COMMIT",
	"SELECT $$;$$; COMMIT; -- $$",
	"SELECT $a$ $b$ $a$; COMMIT",
	`SELECT 1 AS "a""b"; COMMIT`,
	"SELECT 1 AS `a``b`; COMMIT",
	"SELECT 1 AS [a'b]; COMMIT; --'",
	"SELECT $a('); COMMIT; --')",
	"SELECT 1 /*!; COMMIT; */",
	"SELECT 1 AS x\x01; COMMIT",
	"CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT CASE 1 WHEN 1 THEN 2 END; END; COMMIT",
	"CREATE FUNCTION f() RETURNS INTEGER BEGIN ATOMIC SELECT 1; END; COMMIT",
	"SELECT begin atomic FROM (SELECT 1 AS begin) AS x; COMMIT",
	"EXECUTE IMMEDIATE 'COMMIT'",
	"EXECUTE IMMEDIATE 'COMMIT AND CHAIN'",
	"PREPARE x FROM 'COMMIT AND CHAIN'; EXECUTE x",
	"BEGIN NOT ATOMIC COMMIT AND CHAIN; END",
	"IF TRUE THEN COMMIT AND CHAIN; END IF",
	"SET STATEMENT max_statement_time = 5 FOR COMMIT AND CHAIN",
	"SET autocommit = 1",
	"SET @x = 1, @@session.autocommit = 0",
	"DO $$ BEGIN COMMIT; END $$",
}

// Rule 7. What the server makes of a text is its own: each is refused, or told
// of, or an error, or does no harm.
func TestATextThatHidesTheEndOfTheTransactionNeitherStoresNorLosesAnythingUnnoticed(t *testing.T) {
	onEachHiding(t, func(t *testing.T, d *opened) {
		for _, text := range hidden {
			t.Run(text, func(t *testing.T) {
				honest(t, d, func(ctx context.Context) error {
					_, err := d.ExecContext(ctx, text)
					return err
				})
				honest(t, d, func(ctx context.Context) error {
					rows, err := d.SQL().QueryContext(ctx, text)
					if err != nil {
						return err
					}
					for rows.Next() || rows.NextResultSet() {
					}
					return errors.Join(rows.Err(), rows.Close())
				})
			})
		}
	})
}

// honest runs a unit that ignores what hides gives it, once to the end and once
// to an error, and compares what is stored with what the unit says.
func honest(t *testing.T, d *opened, hides func(ctx context.Context) error) {
	t.Helper()
	for _, end := range []error{nil, errStop} {
		var hidden error
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			hidden = hides(ctx)
			_ = insert(ctx, d, 2)
			return end
		})
		ids := d.stored(t)
		switch {
		case err == nil:
			want(t, "stored by a unit that was committed", ids, 1, 2)
		case tells(err):
		case len(ids) > 0:
			t.Errorf("%v are stored by a unit that says %v; the statement said %v", ids, err, hidden)
		}
		_, err = d.other.Exec("DELETE FROM t")
		ok(t, err)
	}
}

// tells reports whether the error of a unit says that it may be stored.
func tells(err error) bool {
	return errors.Is(err, dbscope.ErrCommitUnknown) || strings.Contains(err.Error(), "committed the transaction")
}

// onEachHiding runs a test on each database, with texts of several statements
// allowed and lasting connections.
func onEachHiding(t *testing.T, test func(t *testing.T, d *opened)) {
	for name, db := range databases {
		if db.ofMySQL {
			dsn := db.dsn
			db.dsn = func(t *testing.T) string { return dsn(t) + "?multiStatements=true" }
		}
		t.Run(name, func(t *testing.T) { test(t, open(t, db)) })
	}
}

func TestATextThatHidesTheEndOfTheTransactionIsRefusedWhereItIsSeen(t *testing.T) {
	onEachHiding(t, func(t *testing.T, d *opened) {
		texts := []string{"SELECT 1; COMMIT", "SELECT ';'; /* ; */ ROLLBACK", "\f\vCOMMIT", "SELECT 1; COMMIT AND CHAIN"}
		switch {
		case d.postgres:
			texts = append(texts, "/* /* */ */ COMMIT", "-- \rCOMMIT", "SELECT e'a'\n'\\'' ; COMMIT")
		case d.ofMySQL:
			texts = append(texts, "# \nCOMMIT", "/*! BEGIN */", `SELECT "\""; COMMIT`, "SET @a = 1, autocommit = 0", "SET @@autocommit := 1")
		default:
			texts = append(texts, "/*/*/COMMIT", "\ufeffCOMMIT", "SELECT $a('); COMMIT; --')")
		}
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, insert(ctx, d, 1))
			for _, text := range texts {
				for way, run := range ways {
					if !strings.Contains(way, "Query") { // which adds to the text
						is(t, run(ctx, d, text), dbscope.ErrOpenTransaction)
					}
				}
			}
			return insert(ctx, d, 2)
		}))
		want(t, "stored", d.stored(t), 1, 2)
	})
}

// dbscope counts on them for its blocks.
func TestTheSavepointsOfDbscopeAreNotForTheUser(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			return d.Atomic(ctx, func(ctx context.Context) error {
				ok(t, insert(ctx, d, 1))
				for _, text := range []string{
					"RELEASE SAVEPOINT dbscope_1", "release DBSCOPE_1", "ROLLBACK TO SAVEPOINT dbscope_1", "ROLLBACK TO dbscope_1", "SAVEPOINT dbscope_1",
				} {
					_, err := d.ExecContext(ctx, text)
					is(t, err, dbscope.ErrOpenTransaction)
				}
				return nil
			})
		}))
		want(t, "stored", d.stored(t), 1)
	})
}

// An application that turns it off has its strings read as the server does.
func TestWhatABackslashMeansToPostgreSQLIsAskedWhereItMatters(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		if !d.postgres || d.native {
			t.Skip("it is PostgreSQL's by sqlscope")
		}
		const reads = `SELECT '\'; SELECT '; COMMIT; -- '` // with the setting off COMMIT is outside of strings
		ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			_, err := d.ExecContext(ctx, reads)
			ok(t, err)
			_, err = d.ExecContext(ctx, "SET LOCAL standard_conforming_strings = off")
			ok(t, err)
			_, err = d.ExecContext(ctx, reads)
			is(t, err, dbscope.ErrOpenTransaction)
			return nil
		}))
	})
}

func TestProgramsOfPostgreSQLCannotEndAUnitsTransaction(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		if !d.postgres {
			t.Skip("it is PostgreSQL's")
		}
		for _, query := range []string{
			"CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$",
			"CREATE PROCEDURE chains() LANGUAGE plpgsql AS $$ BEGIN COMMIT AND CHAIN; END $$",
			"CREATE PROCEDURE undoes() LANGUAGE plpgsql AS $$ BEGIN ROLLBACK; END $$",
		} {
			_, err := d.other.Exec(query)
			ok(t, err)
		}
		for _, text := range []string{
			"CALL p()", "CALL chains()", "CALL undoes()", "DO $$ BEGIN COMMIT; END $$", "DO $$ BEGIN CALL p(); END $$",
			"DO $$ BEGIN EXECUTE 'COMMIT'; END $$", "PREPARE x AS SELECT 1; EXECUTE x; CALL p()", "SELECT 1; CALL p()",
		} {
			err := dbscope.Run(t.Context(), func(ctx context.Context) error {
				ok(t, insert(ctx, d, 1))
				_, err := d.ExecContext(ctx, text)
				if err == nil {
					t.Errorf("%q was executed", text)
				}
				return nil
			})
			is(t, err, dbscope.ErrRolledBack)
			want(t, "stored", d.stored(t))
		}
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			_, err := d.ExecContext(ctx, "PREPARE x AS COMMIT")
			return err
		})
		if err == nil {
			t.Error("a COMMIT can be prepared")
		}
	})
}

func TestWithoutAScopeATextIsRefusedToo(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		_, err := d.ExecContext(t.Context(), "SELECT 1; COMMIT")
		is(t, err, dbscope.ErrOpenTransaction)
		st, err := d.PrepareContext(t.Context(), "/* */ COMMIT")
		is(t, err, dbscope.ErrOpenTransaction)
		_ = st
		_, err = d.SQL(sqlscope.JoinBegin()).ExecContext(t.Context(), "SELECT 1; BEGIN")
		is(t, err, dbscope.ErrOpenTransaction)
	}, dbscope.AllowUnscoped())
}
