package readme

import (
	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// rotation has what the three deployments give to cluster.New.
func rotation(oldKey, newKey []byte) []cluster.Option {
	return []cluster.Option{
		cluster.SignedBy(oldKey, newKey), // signed with the old key; the new one is believed
		cluster.SignedBy(newKey, oldKey), // signed with the new key; the old one is believed
		cluster.SignedBy(newKey),         // a minute later
	}
}

// openTill gives the DB the name that errors have.
func openTill(dataSourceName string) *sqlscope.DB {
	return sqlscope.Open("oracle", dataSourceName, dbscope.Name("till"))
}

var _, _ = rotation, openTill
