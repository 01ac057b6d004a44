package sqltext_test

import (
	"testing"

	"github.com/dbscope/dbscope/internal/sqltext"
)

// What a text does to a transaction is fuzzed on real databases, by tests/lexer.
func FuzzTheShortCutsLeaveNothingOut(f *testing.F) {
	for _, texts := range harmless {
		for _, text := range texts {
			f.Add(text)
		}
	}
	for _, text := range []string{
		"SELECT 1;\ufeffCOMMIT", "SELECT 1;/*!50000COMMIT*/", "-- a\n-- \rCOMMIT", "\v\fEND;", "RELEASE dbscope_1; \r\n", "SET autocommit=1",
		"(COMMIT)", "#\nCOMMIT", "--a\nCOMMIT", "/*!", "/*M!", "E'", "$a$", "$a(", "U&'", "\\'", "'\n'", "CREATE TRIGGER BEGIN;END", "BEGIN NOT ATOMIC",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		keyword, in := sqltext.Control(sqltext.Any, text)
		if want := sqltext.ControlSlowly(sqltext.Any, text); in != want {
			t.Errorf("%q: %s in %04b, want %04b", text, keyword, in, want)
		}
		sqltext.Suspicious(text)
	})
}
