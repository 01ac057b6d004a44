package sqltext_test

import (
	"strings"
	"testing"

	"github.com/dbscope/dbscope/internal/sqltext"
)

const postgres = sqltext.PostgreSQL | sqltext.PostgreSQLEscapes

// harmless are texts as people, frameworks and migrations write them.
var harmless = map[sqltext.Dialect][]string{
	sqltext.Any: {
		"",
		" ;\n",
		"SELECT 1",
		"SELECT 'x; COMMIT'",
		"SELECT 'it''s; COMMIT' AS \"end; begin\"",
		"SELECT commit FROM builds; SELECT begin, \"end\" FROM spans;",
		"INSERT INTO notes (text) VALUES ('first; BEGIN; second'), ('-- ; end')",
		"UPDATE t SET a = CASE WHEN b THEN 1 ELSE 2 END; UPDATE t SET c = 3",
		"-- name: GetAuthor :one\nSELECT * FROM authors WHERE id = $1 LIMIT 1;",
		"-- don't; COMMIT\nSELECT 1; -- ROLLBACK",
		"/* begin; */ SELECT 1 /* ; end */; SELECT 2",
		"SAVEPOINT sp1", "SAVEPOINT gorm_0x1", "RELEASE SAVEPOINT sp1", "RELEASE sp1", "ROLLBACK TO SAVEPOINT sp1", "rollback to sp1",
		"ROLLBACK TRANSACTION TO SAVEPOINT bun_1", "ROLLBACK WORK TO x", "SAVEPOINT dbscope",
		"PREPARE plan AS SELECT 1", "PREPARE plan(int) AS SELECT $1", "EXECUTE plan",
		"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET search_path TO a, b", "SET @autocommit = 1",
		"CREATE TABLE goose_db_version (id serial NOT NULL, version_id bigint NOT NULL, is_applied boolean NOT NULL, tstamp timestamp NULL default now(), PRIMARY KEY(id));",
		"CREATE TABLE a (id int);\n\nCREATE INDEX ON a (id);\nCOMMENT ON TABLE a IS 'end; start transaction';\n",
		"CREATE TABLE `users` (`id` integer PRIMARY KEY AUTOINCREMENT,`name` text)",
		"COPY t FROM STDIN", "ENDPOINTS", "BEGINNING", "COMMITS", "STARTED", "STARTS TRANSACTION", "ABORTED", "é; é", "SELECT 1; éEND", "SELECT 1; _COMMIT",
		"EXPLAIN SELECT 1; ANALYZE t",
		"VALUES (1); TABLE t; SHOW x",
		"WITH x AS (SELECT 1) SELECT * FROM x; (SELECT 1)",
	},
	postgres: {
		"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$\nBEGIN\n  NEW.at := now();\n  RETURN NEW;\nEND;\n$$;\nCREATE TRIGGER t BEFORE UPDATE ON x FOR EACH ROW EXECUTE FUNCTION f();",
		"CREATE OR REPLACE FUNCTION f() RETURNS int AS $body$ BEGIN; $$; COMMIT; $$ END; $body$ LANGUAGE plpgsql",
		"CREATE PROCEDURE p() LANGUAGE sql BEGIN ATOMIC INSERT INTO t VALUES (1); DELETE FROM t; END; SELECT 1",
		"CREATE OR REPLACE FUNCTION f(a int DEFAULT 1) RETURNS int BEGIN ATOMIC\n SELECT CASE a WHEN 1 THEN 2 END;\n SELECT 2;\nEND;\nSELECT f()",
		"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC END",
		"DO $$ BEGIN PERFORM 1; END $$",
		"DO $do$ DECLARE a int; BEGIN a := 1; END $do$; SELECT 1",
		"CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM a; DELETE FROM b)",
		`SELECT E'it\'s; COMMIT'; SELECT 1`,
		`SELECT E'a' -- ;` + "\n" + `'\'; COMMIT; '`,
		"SELECT U&'d\\0061t;a'; SELECT U&\"a;b\"",
		"SELECT B'1;0', X'a;b'",
		"/* a /* nested; */ ; COMMIT */ SELECT 1",
		"SELECT a$$b; SELECT c$$d",
		"SELECT $1::text, $2; SELECT $tag$; COMMIT; $other$ ; $tag$",
		"SELECT '{\"a\": [1; 2]}'::jsonb -> 'a' ->> 'b;', arr[1:2], a @> b",
		"DECLARE c CURSOR FOR SELECT 1; FETCH c; CLOSE c",
		"LOCK TABLE t; NOTIFY a; LISTEN b; VACUUM",
	},
	sqltext.PostgreSQL: {
		`SELECT 'C:\'; SELECT 'a'`,
		`SELECT * FROM t WHERE a LIKE '50\%' ESCAPE '\'; SELECT '; COMMIT'`,
	},
	sqltext.MySQL: {
		`INSERT INTO posts VALUES ('it\'s fun; begin now')`,
		`SELECT "a\"; COMMIT; "`,
		"SELECT `a; COMMIT` # ; COMMIT\n, 1",
		"/*!40101 SET NAMES utf8 */; /*!40000 ALTER TABLE t DISABLE KEYS */;",
		"SELECT 5--1; SELECT 2",
		"SELECT 1 --\t; COMMIT",
		"CREATE PROCEDURE p() BEGIN START TRANSACTION; DELETE FROM t; COMMIT; END",
		"CREATE DEFINER=`root`@`localhost` TRIGGER t BEFORE INSERT ON a FOR EACH ROW BEGIN IF 1 THEN BEGIN END; END IF; END",
		"CREATE OR REPLACE DEFINER = CURRENT_USER PROCEDURE p() BEGIN COMMIT; END",
		"CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO BEGIN COMMIT; END",
		"BEGIN NOT ATOMIC SELECT 1; END",
		"SET @a = 1, @autocommit = 0; SET GLOBAL autocommit = 1; SET @@global.autocommit = 1; SELECT @@autocommit = 1",
		"SET NAMES utf8mb4",
		"XA RECOVER; LOCK TABLES t WRITE; UNLOCK TABLES",
	},
	sqltext.SQLite: {
		"CREATE TRIGGER t AFTER INSERT ON a BEGIN\n UPDATE a SET b = CASE c WHEN 1 THEN 2 END; DELETE FROM b;\nEND; SELECT 1",
		"CREATE TEMP TRIGGER IF NOT EXISTS begin AFTER INSERT ON a WHEN CASE 1 WHEN 1 THEN 1 END BEGIN SELECT 1; END",
		"PRAGMA foreign_keys = ON; PRAGMA table_info('t')",
		"INSERT OR ROLLBACK INTO t VALUES (1); INSERT OR ABORT INTO t VALUES (2)",
		"SELECT [a; COMMIT], `b; COMMIT`",
		"SELECT $a(;COMMIT), @b, :c, #d",
		"\ufeffSELECT 1; \ufeffSELECT 2",
		"CREATE TABLE t (id INTEGER, begin TEXT, \"end\" TEXT); INSERT INTO t VALUES (1, '', '')",
	},
}

func TestNothingHarmlessIsTakenForControl(t *testing.T) {
	for dialects, texts := range harmless {
		for _, text := range texts {
			if keyword, in := sqltext.Control(dialects, text); in != 0 {
				t.Errorf("%q: %s in %04b", text, keyword, in)
			}
		}
	}
}

func TestControlIsFoundInTheDialectsThatExecuteIt(t *testing.T) {
	const pg, esc, my, lite = sqltext.PostgreSQL, sqltext.PostgreSQLEscapes, sqltext.MySQL, sqltext.SQLite
	for text, want := range map[string]sqltext.Dialect{
		"COMMIT":                                 sqltext.Any,
		"commit and chain;":                      sqltext.Any,
		"\n\t END":                               sqltext.Any,
		"abort":                                  sqltext.Any,
		"Start -- \n /* */ transaction":          sqltext.Any,
		"PREPARE TRANSACTION 'x'":                sqltext.Any,
		"ROLLBACK":                               sqltext.Any,
		"ROLLBACK TRANSACTION":                   sqltext.Any,
		"rollback and no chain":                  sqltext.Any,
		"ROLLBACK \"to\" x":                      sqltext.Any,
		"SELECT 1; BEGIN":                        sqltext.Any,
		"SELECT ';';;COMMIT;;SELECT 1":           sqltext.Any,
		"RELEASE dbscope_1":                      sqltext.Any,
		"SELECT 1; SAVEPOINT \"DBSCOPE_unit_1\"": sqltext.Any,
		"ROLLBACK TO SAVEPOINT dbscope_2":        sqltext.Any,
		"\v\fCOMMIT":                             sqltext.Any,

		"/*/*/COMMIT":                           my | lite,
		"/* /* */ */ COMMIT":                    pg | esc,
		"\ufeffCOMMIT":                          lite,
		"SELECT 1;\ufeffCOMMIT":                 lite,
		"SELECT 1;/*!50000COMMIT*/":             my,
		"--\rCOMMIT":                            pg | esc,
		"--1\nCOMMIT":                           pg | esc | lite,
		"#\nCOMMIT":                             my,
		"/*! COMMIT */":                         my,
		"/*M!100500 COMMIT */":                  my,
		"/*!99999 ' */ COMMIT; --":              sqltext.Any,
		"SELECT 1 /*! ; COMMIT */":              my,
		`SELECT '\'; COMMIT; --'`:               pg | lite,
		`SELECT '\' || '; COMMIT`:               esc | my,
		`SELECT E'\''; COMMIT`:                  pg | esc | my,
		`SELECT "\""; COMMIT; --"`:              my,
		`SELECT "\"";COMMIT`:                    my,
		"SELECT E''\n'\\'' ; COMMIT":            pg | esc | my,
		"SELECT 1E'\\''; COMMIT":                pg | esc | my,
		`SELECT B'\'; COMMIT; --'`:              pg | esc | lite,
		"SELECT $$'$$; COMMIT; --'":             pg | esc,
		"SELECT $1a$ ' $1a$; COMMIT":            0,
		"SELECT $a(');COMMIT;--)":               lite,
		"SELECT [']; COMMIT; --'":               lite,
		"SELECT `'`; COMMIT; --'":               my | lite,
		"SET autocommit=0":                      my,
		"SET @a = 1, @@session.autocommit := 1": my,
		"SET `autocommit` = 1":                  my,
		"SELECT begin atomic FROM t; COMMIT":    sqltext.Any,
		"CREATE FUNCTION f(begin atomic) RETURNS int AS '...'; COMMIT":                   pg | esc | lite,
		"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END; COMMIT":             pg | esc | lite,
		"CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END; COMMIT":                 pg | esc | lite,
		"CREATE TABLE a (b TEXT); CREATE VIEW begin AS SELECT 1; END; CREATE TABLE x(y)": sqltext.Any,
	} {
		keyword, in := sqltext.Control(sqltext.Any, text)
		if in != want || (in == 0) != (keyword == "") {
			t.Errorf("%q: %q in %04b, want %04b", text, keyword, in, want)
		}
		for d := sqltext.PostgreSQL; d < sqltext.Any; d <<= 1 {
			if _, in := sqltext.Control(d, text); in != want&d {
				t.Errorf("%q: %04b alone gives %04b", text, d, in)
			}
		}
	}
}

func TestWhatCouldEndATransactionOnMariaDBIsSuspicious(t *testing.T) {
	for text, want := range map[string]sqltext.Suspicion{
		"CREATE TABLE a (id int)":                    {Word: "CREATE", Commits: true},
		" # \n/* */ drop table a":                    {Word: "DROP", Commits: true},
		"CREATE TEMPORARY TABLE a (id int)":          {Word: "CREATE"},
		"CALL p()":                                   {Word: "CALL"},
		"SELECT 1; CALL p()":                         {Word: "CALL"},
		"EXECUTE IMMEDIATE 'COMMIT'":                 {Word: "EXECUTE"},
		"BEGIN NOT ATOMIC COMMIT; END":               {Word: "BEGIN"},
		"IF 1 THEN COMMIT; END IF":                   {Word: "IF"},
		"SELECT 1; x: BEGIN NOT ATOMIC END":          {Word: "X"},
		"SET STATEMENT a = 1 FOR COMMIT":             {Word: "SET"},
		"SET STATEMENT a = 1 FOR CALL p()":           {Word: "SET"},
		"SET STATEMENT a = f() FOR SELECT 1":         {Word: "SET"},
		"SET STATEMENT a = 1, b = 2 FOR SELECT 1":    {Word: "SET"},
		"SET STATEMENT a = 1 FOR SELECT 1; CALL p()": {Word: "SET"},
		"SET PASSWORD = 'x'":                         {Word: "SET"},
		"SET @x = 1, ROLE = a":                       {Word: "SET"},
		"/*! SELECT */ 1":                            {Word: "SELECT"},
		`SELECT '\'; SELECT 1 -- '`:                  {Word: "SELECT"},
		"ANALYZE TABLE t":                            {Word: "ANALYZE"},
		"(((TRUNCATE t)))":                           {Word: "TRUNCATE", Commits: true},
	} {
		if s, is := sqltext.Suspicious(text); !is || s != want {
			t.Errorf("%q: %v %v, want %v", text, s, is, want)
		}
	}
	for _, text := range []string{
		"", "SELECT 1", "(SELECT 1) UNION (SELECT 2)", "insert into t values (1); update t set a = ';'", "-- \nSELECT 1", "# x\nDELETE FROM t",
		"SAVEPOINT a", "ROLLBACK TO a", "SET @a = 1", "SET NAMES utf8", "SET SESSION sql_mode = ''; SELECT 1", "SELECT 'C:\\'", "SELECT ';'",
		"SET STATEMENT innodb_lock_wait_timeout = 5 FOR INSERT INTO t VALUES (1)", "set statement max_statement_time=60 for (select 1)",
	} {
		if s, is := sqltext.Suspicious(text); is {
			t.Errorf("%q: %v", text, s)
		}
	}
}

func BenchmarkControl(b *testing.B) {
	columns := strings.Repeat("column_name, ", 40)
	for name, text := range map[string]string{
		"short":              "SELECT 1",
		"long":               "SELECT " + columns + "1 FROM t WHERE id = $1",
		"indented":           "\n\t\tSELECT " + columns + "1 FROM t WHERE id = $1\n\t",
		"ends in semicolon":  "INSERT INTO t (" + columns + "id) VALUES ($1);",
		"comment first":      "-- name: Get :one\nSELECT " + columns + "1 FROM t WHERE id = $1",
		"savepoint":          "SAVEPOINT sp1",
		"keyword, semicolon": "UPDATE t SET a = CASE WHEN b THEN 1 END, c = 'a;b' WHERE (" + columns + "id) = $1",
		"semicolon in value": "INSERT INTO t (" + columns + "id) VALUES ('a;b')",
		"IndexByte alone":    "",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			if text == "" {
				text := "SELECT " + columns + "1 FROM t WHERE id = $1"
				for b.Loop() {
					strings.IndexByte(text, ';')
				}
				return
			}
			for b.Loop() {
				sqltext.Control(sqltext.Any, text)
			}
		})
	}
}
