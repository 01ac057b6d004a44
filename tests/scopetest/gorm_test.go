package scopetest_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/glebarez/sqlite"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// T is a row of the table t.
type T struct {
	ID     int `gorm:"primaryKey"`
	Parent *int
}

// TableName is GORM's.
func (T) TableName() string { return "t" }

// BeforeCreate is a hook of GORM's: it stores a row of its own, by the same
// transaction.
func (row *T) BeforeCreate(tx *gorm.DB) error {
	if row.ID >= 1000 {
		return nil
	}
	return tx.Create(&T{ID: row.ID + 1000}).Error
}

// onGORM runs a test with GORM over the ambient *sql.DB, whose transactions are
// savepoints or join.
func onGORM(t *testing.T, test func(ctx context.Context, t *testing.T, d opened, orm *gorm.DB)) {
	onEach(t, func(t *testing.T, d opened) {
		for name, over := range map[string]*sql.DB{"savepoints": d.SQL(), "joining": d.SQL(sqlscope.JoinBegin())} {
			orm, err := gorm.Open(map[kind]gorm.Dialector{
				isSQLite:     sqlite.Dialector{Conn: over},
				isPostgreSQL: postgres.New(postgres.Config{Conn: over}),
				isMariaDB:    mysql.New(mysql.Config{Conn: over}),
			}[d.kind], &gorm.Config{Logger: logger.Discard})
			ok(t, err)
			t.Run(name, func(t *testing.T) {
				inTest(t, d, func(ctx context.Context, t *testing.T) { test(ctx, t, d, orm) })
			})
		}
	}, dbscope.AllowUnscoped()) // GORM asks some for their version when it starts
}

// R16, R17.
func TestGORMInATest(t *testing.T) {
	onGORM(t, func(ctx context.Context, t *testing.T, d opened, orm *gorm.DB) {
		// Outside scopes, as a fixture or a check does: Create begins and commits by itself.
		ok(t, orm.WithContext(ctx).Create(&T{ID: 1}).Error)
		want(ctx, t, d, 2)
		is(t, orm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			ok(t, tx.Create(&T{ID: 2}).Error)
			return errStop
		}), errStop)
		want(ctx, t, d, 2)

		// In units that are stored, and undone; beside the DB's own statements.
		create := func(id int, end error) func(context.Context) error {
			return func(ctx context.Context) error {
				ok(t, insert(ctx, d, id+100))
				ok(t, orm.WithContext(ctx).Create(&T{ID: id}).Error)
				return end
			}
		}
		ok(t, dbscope.Run(ctx, create(3, nil)))
		want(ctx, t, d, 5)
		is(t, dbscope.Run(ctx, create(4, errStop)), errStop)
		want(ctx, t, d, 5)

		var rows []T
		ok(t, orm.WithContext(ctx).Order("id").Find(&rows).Error)
		if len(rows) != 5 || rows[0].ID != 1 || rows[4].ID != 1003 {
			t.Errorf("GORM finds %v", rows)
		}
	})
}

func TestHooksOfAUnitThatGORMWritesIn(t *testing.T) {
	onGORM(t, func(ctx context.Context, t *testing.T, d opened, orm *gorm.DB) {
		create := func(id int) func(context.Context) error {
			return func(ctx context.Context) error { return orm.WithContext(ctx).Create(&T{ID: id}).Error }
		}
		unit := func(end error) func(context.Context) error {
			return func(ctx context.Context) error {
				ok(t, dbscope.BeforeCommit(ctx, create(1)))
				ok(t, d.AfterCommit(ctx, create(2)))
				ok(t, dbscope.AfterRollback(ctx, create(3)))
				ok(t, create(4)(ctx))
				return end
			}
		}
		is(t, dbscope.Run(ctx, unit(errStop)), errStop)
		want(ctx, t, d, 2) // 3
		ok(t, dbscope.Run(ctx, unit(nil)))
		want(ctx, t, d, 8) // and 1, 2, 4
	})
}

func TestNestedTransactionsOfGORM(t *testing.T) {
	onGORM(t, func(ctx context.Context, t *testing.T, d opened, orm *gorm.DB) {
		nested := func(ctx context.Context) error {
			return orm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
				ok(t, tx.Create(&T{ID: 1}).Error)
				is(t, tx.Transaction(func(tx *gorm.DB) error { // GORM's own savepoint
					ok(t, tx.Create(&T{ID: 2}).Error)
					return errStop
				}), errStop)
				if err := tx.Transaction(func(tx *gorm.DB) error { return tx.Create(&T{ID: 1}).Error }); err == nil {
					t.Error("a duplicate was stored")
				}
				return tx.Create(&T{ID: 3}).Error
			})
		}
		ok(t, dbscope.Run(ctx, nested))
		want(ctx, t, d, 4)
		ok(t, orm.WithContext(ctx).Where("1 = 1").Delete(&T{}).Error)
		ok(t, nested(ctx)) // a unit by itself
		want(ctx, t, d, 4)
	})
}
