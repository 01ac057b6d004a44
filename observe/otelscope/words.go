package otelscope

import (
	"strings"

	"github.com/dbscope/dbscope/observe"
)

// outcome is a value of an attribute.
func outcome(o observe.Outcome) string { return strings.ReplaceAll(o.String(), " ", "_") }

// operations are the words that a statement may begin with: others are none, so that
// there are few values.
var operations = map[string]bool{}

func init() {
	for word := range strings.FieldsSeq("SELECT INSERT UPDATE DELETE MERGE WITH VALUES TABLE COPY CALL CREATE ALTER DROP " +
		"TRUNCATE LOCK SET SHOW EXPLAIN ANALYZE VACUUM REFRESH LISTEN NOTIFY UNLISTEN DECLARE FETCH CLOSE DO GRANT REVOKE " +
		"REPLACE LOAD PRAGMA EXECUTE PREPARE COMMENT REINDEX CLUSTER ATTACH DETACH") {
		operations[word] = true
	}
}

// operationName is what is done, as the server would call it, or "".
func operationName(e observe.Event) string {
	switch e.Kind {
	case observe.Statement, observe.Prepare:
	case observe.RollbackTo:
		return "ROLLBACK TO SAVEPOINT"
	default:
		return strings.ToUpper(e.Kind.String())
	}
	if e.Statements > 1 {
		return "BATCH"
	}
	text := strings.TrimLeft(e.Text, " \t\r\n(")
	end := strings.IndexFunc(text, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') })
	if end < 0 {
		end = len(text)
	}
	word := text[:end]
	if !operations[word] {
		if word = strings.ToUpper(word); !operations[word] {
			return ""
		}
	}
	if e.Kind == observe.Prepare {
		return "PREPARE"
	}
	return word
}
