package subject

import "context"

type openers = map[string]func(ctx context.Context, c Config) (*Subject, error)

const (
	pgxHand  = "pgx by hand"
	sqlHand  = "database/sql by hand"
	gormHand = "GORM by hand"
)

// Subjects that pages and plots pick out.
const (
	Pgxscope    = "pgxscope"
	PgxscopeSQL = "pgxscope's SQL()"
	Sqlscope    = "sqlscope"
	Avito       = "avito's manager"
	ExecCommit  = "pgxscope, ExecCommit"
)

var all = []opener{
	{
		name: pgxHand, byHand: pgxHand, open: openers{Postgres: pgxByHand},
		about: "`pool.BeginTx`, the statements, `tx.Commit`; a GET is read-only",
	},
	{
		name: "pgx, autocommit", byHand: pgxHand, open: openers{Postgres: pgxAutocommit}, autocommit: true,
		about: "the statements on the pool, without a transaction",
	},
	{
		name: Avito, byHand: pgxHand, open: openers{Postgres: avito},
		about: "[go-transaction-manager](https://github.com/avito-tech/go-transaction-manager) v2 with its driver for pgx v5",
	},
	{
		name: Pgxscope, byHand: pgxHand, open: openers{Postgres: withPgxscope}, ours: true,
		about: "`httpscope.Middleware(httpscope.ReadOnlySafeMethods())` around handlers that call `db.QueryRow` and `db.Exec`",
	},
	{
		name: ExecCommit, byHand: pgxHand, open: openers{Postgres: withExecCommit}, ours: true, only: []string{"write", "mixed"},
		about: "the same, and the last statement of a unit that writes is `db.ExecCommit`",
	},
	{
		name: "pgxscope, AwaitEnd", byHand: pgxHand, open: openers{Postgres: withAwaitEnd}, ours: true, only: []string{"read"},
		about: "as pgxscope, with `dbscope.AwaitEnd()`: a unit that only reads waits for the answer to its COMMIT",
	},
	{
		name: "observed pgxscope", byHand: Pgxscope, open: openers{Postgres: withObservers}, ours: true,
		about: "as pgxscope, with slogscope, livescope and otelscope, whose spans are all made and thrown away",
	},
	{
		name: sqlHand, byHand: sqlHand, open: openers{Postgres: sqlByHand, MariaDB: sqlByHand},
		about: "`db.BeginTx`, the statements, `tx.Commit`; on PostgreSQL through pgx's driver",
	},
	{
		name: "database/sql, autocommit", byHand: sqlHand, open: openers{MariaDB: sqlAutocommit}, autocommit: true,
		about: "the statements on the pool, without a transaction",
	},
	{
		name: PgxscopeSQL, byHand: sqlHand, open: openers{Postgres: withPgxscopeSQL}, ours: true,
		about: "the middleware, and the `*sql.DB` of a pgxscope.DB in the handlers",
	},
	{
		name: Sqlscope, byHand: sqlHand, open: openers{Postgres: withSqlscope, MariaDB: withSqlscope}, ours: true,
		about: "the middleware, and a sqlscope.DB in the handlers",
	},
	{
		name: "sqlscope's SQL()", byHand: sqlHand, open: openers{MariaDB: withSqlscopeSQL}, ours: true,
		about: "the middleware, and the `*sql.DB` of a sqlscope.DB in the handlers",
	},
	{
		name: gormHand, byHand: gormHand, open: openers{Postgres: gormByHand, MariaDB: gormByHand},
		about: "GORM's `Transaction`",
	},
	{
		name: "GORM over SQL()", byHand: gormHand, open: openers{Postgres: gormOver, MariaDB: gormOver}, ours: true,
		about: "the middleware, and GORM on the `*sql.DB` of pgxscope, on MariaDB of sqlscope",
	},
}
