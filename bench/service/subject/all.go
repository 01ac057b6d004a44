package subject

import "context"

type openers = map[string]func(ctx context.Context, c Config) (*Subject, error)

const (
	pgxHand  = "pgx by hand"
	sqlHand  = "database/sql by hand"
	gormHand = "GORM by hand"
)

var all = []opener{
	{name: pgxHand, byHand: pgxHand, open: openers{Postgres: pgxByHand}},
	{name: "pgx, autocommit", byHand: pgxHand, open: openers{Postgres: pgxAutocommit}, autocommit: true},
	{name: "avito's manager", byHand: pgxHand, open: openers{Postgres: avito}},
	{name: "pgxscope", byHand: pgxHand, open: openers{Postgres: withPgxscope}},
	{name: sqlHand, byHand: sqlHand, open: openers{Postgres: sqlByHand, MariaDB: sqlByHand}},
	{name: "database/sql, autocommit", byHand: sqlHand, open: openers{MariaDB: sqlAutocommit}, autocommit: true},
	{name: "pgxscope's SQL()", byHand: sqlHand, open: openers{Postgres: withPgxscopeSQL}},
	{name: "sqlscope", byHand: sqlHand, open: openers{Postgres: withSqlscope, MariaDB: withSqlscope}},
	{name: "sqlscope's SQL()", byHand: sqlHand, open: openers{MariaDB: withSqlscopeSQL}},
	{name: gormHand, byHand: gormHand, open: openers{Postgres: gormByHand, MariaDB: gormByHand}},
	{name: "GORM over SQL()", byHand: gormHand, open: openers{Postgres: gormOver, MariaDB: gormOver}},
}
