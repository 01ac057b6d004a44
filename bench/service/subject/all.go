package subject

import "context"

type openers = map[string]func(ctx context.Context, c Config) (*Subject, error)

const (
	pgxHand = "pgx by hand"
	sqlHand = "database/sql by hand"
)

var all = []opener{
	{name: pgxHand, byHand: pgxHand, open: openers{Postgres: pgxByHand}},
	{name: "pgx, autocommit", byHand: pgxHand, open: openers{Postgres: pgxAutocommit}, autocommit: true},
	{name: "avito's manager", byHand: pgxHand, open: openers{Postgres: avito}},
	{name: "pgxscope", byHand: pgxHand, open: openers{Postgres: withPgxscope}},
	{name: "pgxscope's SQL()", byHand: sqlHand, open: openers{Postgres: withPgxscopeSQL}},
	{name: sqlHand, byHand: sqlHand, open: openers{Postgres: sqlByHand}},
	{name: "sqlscope", byHand: sqlHand, open: openers{Postgres: withSqlscope}},
}
