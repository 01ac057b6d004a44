package readme

import (
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// The same program on PostgreSQL, by the driver of pgx for database/sql.
var shopOnPostgres = sqlscope.Open("pgx", "postgres://app@127.0.0.1/shop")

// The same program on PostgreSQL by pgx itself.
var shopByPgx = pgxscope.Open("postgres://app@127.0.0.1/shop")

var _, _ = shopOnPostgres, shopByPgx
