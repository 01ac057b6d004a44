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
	"CREATE FUNCTION f() RETURNS int ", "CREATE OR REPLACE PROCEDURE p() ", "BEGIN ATOMIC ", " ATOMIC ", "; END", "END;", "CASE 1 WHEN 1 THEN 1 END",
	"CREATE TRIGGER g AFTER INSERT ON t ", "CREATE TEMP TRIGGER g AFTER INSERT ON t ", "FOR EACH ROW ", "LANGUAGE sql ", "AS ", "DELETE FROM other;", "DELETE FROM other",
	"BEGIN NOT ATOMIC ", "IF 1 THEN ", "END IF", "EXECUTE IMMEDIATE '", "EXECUTE IMMEDIATE ", "PREPARE s FROM '", "EXECUTE s", "PREPARE s AS ",
	"SET STATEMENT max_statement_time=5 FOR ", "CALL again()", "CALL undoes()", "CALL good()", "CREATE TABLE IF NOT EXISTS new (a INT)", "CREATE TEMPORARY TABLE mine (a INT)",
	"SET @a=1", "a", "b", "x", "XA ", "REPEAT ", "x: ",
}

// text makes one of a program: a byte of the upper half is a piece, or the first
// half of one, any other a character.
func text(program []byte) string {
	var b strings.Builder
	for i := 0; i < len(program); i++ {
		c := int(program[i])
		switch {
		case c < 0x80:
			b.WriteByte(byte(c))
		case c == 0xff && i+1 < len(program):
			i++
			b.WriteString(pieces[(0x7f+int(program[i]))%len(pieces)])
		default:
			b.WriteString(pieces[(c-0x80)%len(pieces)])
		}
	}
	return b.String()
}

// programs are some to begin with, the same each time.
func programs(n int) [][]byte {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // it is to be the same each time
	all := make([][]byte, n)
	for i := range all {
		for range 1 + random.IntN(14) {
			piece := random.IntN(len(pieces))
			if piece < 0x7f {
				all[i] = append(all[i], byte(0x80+piece))
			} else {
				all[i] = append(all[i], 0xff, byte(piece-0x7f))
			}
		}
	}
	return all
}
