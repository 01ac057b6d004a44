package subject

import "strconv"

// Schema is the text of statements that create the table. PostgreSQL's pages
// have room for new versions of their rows, so that the table does not grow.
func Schema(db string) string {
	last := strconv.Itoa(Rows - 1)
	if db == MariaDB {
		return "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL) ENGINE = InnoDB;" +
			"INSERT INTO t SELECT seq, 0 FROM seq_0_to_" + last + ";" +
			"ANALYZE TABLE t"
	}
	return "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL) WITH (fillfactor = 50);" +
		"INSERT INTO t SELECT id, 0 FROM generate_series(0, " + last + ") id;" +
		"ANALYZE t"
}
