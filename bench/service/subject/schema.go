package subject

import "strconv"

// Schema is the text of statements that create the table. Its pages have room
// for new versions of their rows, so that the table does not grow.
func Schema(string) string {
	return "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL) WITH (fillfactor = 50);" +
		"INSERT INTO t SELECT id, 0 FROM generate_series(0, " + strconv.Itoa(Rows-1) + ") id;" +
		"ANALYZE t"
}
