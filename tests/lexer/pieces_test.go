package lexer_test

import (
	"math/rand/v2"
	"strings"
)

// pieces are what texts are made of, besides single characters. A piece has no
// white space around it, so that some run into each other.
var pieces = []string{
	" ", "\n", "\t", "\r", "\f", "\v", "\x00", "\x01", "\x7f", "\ufeff", "\u00a0", "é", ";", "; ", ";;",
	"COMMIT", "commit", "ROLLBACK", "BEGIN", "END", "ABORT", "START TRANSACTION", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN",
	"COMMIT;BEGIN", "ROLLBACK;BEGIN", "; COMMIT; BEGIN;", ";COMMIT;", "; COMMIT AND CHAIN; ", "END TRANSACTION", "COMMIT WORK",
	"PREPARE TRANSACTION 'x'", "SAVEPOINT a", "ROLLBACK TO a", "RELEASE a", "ROLLBACK TO SAVEPOINT a", "ROLLBACK WORK TO a",
	"ROLLBACK TRANSACTION", "SET autocommit=1", "SET autocommit=0", "SET TRANSACTION READ ONLY",
	"--", "-- ", "#", "/*", "*/", "/**/", "/*/", "/*!", "/*!50000", "/*!99999", "/*!100000", "/*M!", "/*M!100000 ", "/*!999999 ",
	"'", "''", "\"", "\"\"", "`", "``", "[", "]", "\\", "\\'", "\\\"", "\\\\", "E'", "e'", "U&'", "U&\"", "B'", "X'", "x'", "N'", "n'", "_utf8'",
	"$", "$$", "$a$", "$b$", "$1", "$a(", ")", "(", "@", "@@", "@a", ":a", "::", "?", "#a(",
	"SELECT 1", "SELECT ", "SELECT 1 AS ", "SELECT 1;", "VALUES (1)", "DO ", "EXPLAIN ", "WITH a AS (SELECT 1) ", "1E", "0x1", "1.5", ".", ",", "=", "-", "+", "*", "/", "||",
	"CREATE OR REPLACE FUNCTION f() RETURNS int ", "CREATE OR REPLACE PROCEDURE p() ", "BEGIN ATOMIC ", " ATOMIC ", "; END", "END;", "CASE 1 WHEN 1 THEN 1 END",
	"CREATE TRIGGER IF NOT EXISTS g AFTER INSERT ON t ", "CREATE TEMP TRIGGER IF NOT EXISTS g AFTER INSERT ON t ", "FOR EACH ROW ", "LANGUAGE sql ", "AS ", "DELETE FROM other;", "DELETE FROM other",
	"BEGIN NOT ATOMIC ", "IF 1 THEN ", "END IF", "EXECUTE IMMEDIATE '", "EXECUTE IMMEDIATE ", "PREPARE s FROM '", "EXECUTE s", "PREPARE s AS ",
	"SET STATEMENT max_statement_time=5 FOR ", "CALL again()", "CALL undoes()", "CALL good()", "CREATE TABLE IF NOT EXISTS new (a INT)", "CREATE TEMPORARY TABLE mine (a INT)",
	"SET @a=1", "a", "b", "x", "XA ", "REPEAT ", "x: ",
}

// opened are ways to begin a string, a name, a comment or a body, and to end it.
var opened = [][2]string{
	{"'", "'"},
	{"E'", "'"},
	{"N'", "'"},
	{"B'", "'"},
	{"1E'", "'"},
	{"'a'\n'", "'"},
	{"E'a' -- \n'", "'"},
	{"\"", "\""},
	{"1 AS `", "`"},
	{"1 AS [", "]"},
	{"1 AS \"", "\""},
	{"$$", "$$"},
	{"$a$", "$a$"},
	{"$a(", ")"},
	{"@a(", ")"},
	{"1 /*", "*/"},
	{"1 /*!", "*/"},
	{"1 /*!50000 ", "*/"},
	{"1 /*!99999 ", "*/"},
	{"1 /*M!", "*/"},
	{"1 -- ", "\n"},
	{"1 --", "\r"},
	{"1 #", "\n"},
	{"1 --", "\n"},
	{"(", ")"},
	{"CASE 1 WHEN 1 THEN ", " END"},
}

// inside are what a string, a name or a comment may have in it.
var inside = []string{
	"", "a", "'", "''", "\"", "`", "]", "\\", "\\'", "\\\\", "/*", "*/", "--", "-- ", "#", "\n", "\r", "$$", "$a$", ";", ";COMMIT;", "; COMMIT; BEGIN; ", "; ROLLBACK; BEGIN; ", ")", "$b$",
}

// before and after are what may hide a keyword of control, or go with it.
var (
	before = []string{
		"", "", "", " ", "\f", "\v", "\ufeff", "\r", "/**/", "/*/*/", "/* /* */ */", "/* /* */", "-- \n", "--\r", "--a\n", "#\n", "#;\n", "/*!", "/*!50000 ", "/*!99999", "/*!99999 a */", "/*M! ", "(", "\x00", "\x01", "\u00a0",
		"/*!50000 SELECT 1 */ ;", "1", "x:", "EXPLAIN ", "CREATE TEMP TRIGGER IF NOT EXISTS g AFTER INSERT ON t BEGIN SELECT 1; END;",
		"CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END;", "SELECT begin atomic FROM (SELECT 1 AS begin) AS x;",
		"BEGIN NOT ATOMIC ", "IF 1 THEN ", "EXECUTE IMMEDIATE '", "PREPARE s FROM '", "SET STATEMENT max_statement_time=5 FOR ",
	}
	control = []string{
		"COMMIT", "commit", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "COMMIT; BEGIN", "ROLLBACK; BEGIN", "END; BEGIN", "BEGIN", "START TRANSACTION", "END", "ABORT; BEGIN",
		"CALL again()", "CALL undoes()", "SET autocommit=1", "SET @a = 1, @@autocommit = 0", "ROLLBACK TO a", "SELECT 1", "DELETE FROM other",
	}
	after   = []string{"", "", ";", "*/", "; */", " -- '", "'", " -- \"", "\"", "`", "]", ")", "; END", "'; EXECUTE s", "; END IF", "#", "--", "$$", "$a$", "\\", "\x00"}
	between = []string{";", "; ", ";\n", " ", "\n", ";;", "; /* ; */ "}
)

// text makes one of a program: it is a text, or its bytes are choices: of a row
// of pieces, or of something that looks more like SQL.
func text(program []byte) string {
	choose := func(from []string) (s string) {
		if len(program) > 0 {
			s, program = from[int(program[0])%len(from)], program[1:]
		}
		return s
	}
	var b strings.Builder
	if len(program) == 0 {
		return ""
	}
	kind := program[0]
	program = program[1:]
	switch kind % 4 {
	case 0:
		return string(program)
	case 1:
		for len(program) > 0 {
			b.WriteString(choose(pieces))
		}
		return b.String()
	}
	for len(program) > 1 {
		kind := program[0]
		program = program[1:]
		if kind%2 == 0 {
			o := opened[int(kind/2)%len(opened)]
			b.WriteString("SELECT " + o[0] + choose(inside) + choose(inside))
			if kind < 0xe0 {
				b.WriteString(o[1])
			}
			b.WriteString(choose(inside) + choose(between))
			continue
		}
		b.WriteString(choose(before) + choose(control) + choose(after) + choose(between))
	}
	return b.String()
}

// texts are some that came to mind.
var texts = []string{
	"COMMIT", "\fCOMMIT", "\ufeffCOMMIT", "SELECT 1;\ufeffCOMMIT", "/* /* */ */ COMMIT", "/* /* */ COMMIT", "/*/*/COMMIT", "--\rCOMMIT", "--a\nCOMMIT", "#\nCOMMIT",
	"/*! COMMIT */", "/*!50000COMMIT*/", "/*!99999 SELECT */ /*!50000 COMMIT AND CHAIN */", "/*!99999 ' */ COMMIT AND CHAIN -- '", "/*!99999 /* */ COMMIT -- */",
	"SELECT 1 /*!; COMMIT AND CHAIN; */", "SELECT 1; COMMIT AND CHAIN", "SELECT ';'; COMMIT", `SELECT '\'; COMMIT; -- '`, `SELECT '\\'; COMMIT; -- '`, `SELECT '\'; SELECT '; COMMIT; -- '`,
	`SELECT "\"; COMMIT; -- "`, `SELECT 1 AS "\"; SELECT 1 AS "; COMMIT; -- "`, `SELECT E'\''; COMMIT; -- '`, `SELECT E'\\'; COMMIT; -- '`, `SELECT E'a''\''; COMMIT; -- '`,
	"SELECT E'a'\n'\\''; COMMIT; -- '", "SELECT E'a' -- '\n'\\''; COMMIT; -- '", "SELECT E'a'\r'\\''; COMMIT; -- '", "SELECT 'a'\n'\\'; COMMIT; -- '", `SELECT 1 AS nameE, '\'; COMMIT; -- '`,
	`SELECT 1E'\''; COMMIT; -- '`, `SELECT B'1', X'1f'; COMMIT; -- '`, `SELECT U&'\'; COMMIT; -- '`, `SELECT N'\'; COMMIT; -- '`,
	"SELECT $$'$$; COMMIT; -- '", "SELECT $a$ $$ ' $a$; COMMIT; -- '", "SELECT $a$ $b$a$a$; COMMIT; -- $a$", "SELECT 1 AS a$$; COMMIT; -- $$", "SELECT 1 AS a$b$; COMMIT; SELECT 1 AS a$b$",
	`SELECT 1 AS "a""'"; COMMIT; -- '`, "SELECT 1 AS `a``'`; COMMIT; -- '", "SELECT 1 AS [a\"'`]; COMMIT; -- '", "SELECT 1 AS [[]; COMMIT", "SELECT $a('); COMMIT; -- ')", "SELECT @a::b('), :c, #d; COMMIT; -- ')",
	"SELECT begin atomic FROM (SELECT 1 AS begin) AS x; COMMIT", "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END; COMMIT", "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE 1 WHEN 1 THEN 1 END; END; COMMIT",
	"CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END; SELECT 1", "CREATE OR REPLACE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'; COMMIT",
	"CREATE TRIGGER IF NOT EXISTS g AFTER INSERT ON t BEGIN SELECT CASE 1 WHEN 1 THEN 1 END; END; COMMIT", "CREATE TEMP TRIGGER IF NOT EXISTS begin AFTER INSERT ON t BEGIN SELECT 1; END; COMMIT; BEGIN",
	"CREATE TRIGGER IF NOT EXISTS g AFTER INSERT ON t FOR EACH ROW BEGIN DELETE FROM other; END; COMMIT AND CHAIN", "CREATE OR REPLACE PROCEDURE p() BEGIN COMMIT; END; CALL p()",
	"EXECUTE IMMEDIATE 'COMMIT AND CHAIN'", "PREPARE s FROM 'COMMIT AND CHAIN'; EXECUTE s", "BEGIN NOT ATOMIC COMMIT AND CHAIN; END", "IF 1 THEN COMMIT AND CHAIN; END IF", "x: BEGIN NOT ATOMIC COMMIT AND CHAIN; END",
	"SET STATEMENT max_statement_time = 5 FOR COMMIT AND CHAIN", "SET autocommit = 1", "SET @a = 1, @@session.`autocommit` := 0", "CALL again()", "CALL undoes()", "DELETE FROM other; CALL again()", "BEGIN COMMIT; END", "DECLARE a INT; BEGIN COMMIT; END",
	"ROLLBACK; BEGIN", "SELECT 1; ROLLBACK; BEGIN", "SELECT 1; ROLLBACK AND CHAIN", "ROLLBACK /*!99999 TO */ a", "SAVEPOINT a; ROLLBACK TO a", "COMMIT\x00", "SELECT 1\x00; COMMIT", "-- \x00COMMIT", "SELECT 1;\x01COMMIT", "SELECT 1 AS \u00a0; COMMIT",
	"DO $$ BEGIN COMMIT; END $$", "EXPLAIN COMMIT", "(COMMIT)", "PREPARE TRANSACTION 'x'", "COMMIT PREPARED 'x'",
}

// programs are some to begin with, the same each time.
func programs(n int) (all [][]byte) {
	for _, text := range texts {
		all = append(all, append([]byte{0}, text...), append([]byte{0}, text+"; BEGIN"...))
	}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // it is to be the same each time
	for range n {
		p := make([]byte, 5+random.IntN(12))
		for i := range p {
			p[i] = byte(random.UintN(256))
		}
		all = append(all, p)
	}
	return all
}
