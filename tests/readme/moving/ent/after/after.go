// Package after opens ent's driver on units.
package after

import (
	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// openEnt makes the driver of the generated client: ent.NewClient(ent.Driver(openEnt(db))).
func openEnt(db *pgxscope.DB) *entsql.Driver {
	return entsql.OpenDB(dialect.Postgres, db.SQL(sqlscope.JoinBegin()))
}

var _ = openEnt
