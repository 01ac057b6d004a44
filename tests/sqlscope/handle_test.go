package sqlscope_test

import (
	"context"
	"database/sql"
	"errors"
	"reflect"
	"testing"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// Libraries close what they were given, as golang-migrate does.
func TestAHandleThatALibraryHasClosedIsReplaced(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		for name, opts := range map[string][]sqlscope.SQLOption{"savepoints": nil, "joining": {sqlscope.JoinBegin()}} {
			t.Run(name, func(t *testing.T) {
				ok(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
					closed := d.SQL(opts...)
					_, err := closed.ExecContext(ctx, "DELETE FROM t")
					ok(t, err)
					ok(t, closed.Close())
					ok(t, closed.Close())
					if _, err := closed.ExecContext(ctx, "DELETE FROM t"); err == nil {
						t.Error("a closed handle executed a statement")
					}
					handle := d.SQL(opts...)
					if handle == closed || handle != d.SQL(opts...) {
						t.Error("not one new handle")
					}
					ok(t, insert(ctx, handle, 1))
					return insert(ctx, d, 2) // the DB itself is as it was
				}))
				want(t, "stored", d.stored(t), 1, 2)
			})
		}
	})
}

func TestAfterTheDBIsClosedItsHandlesStayClosed(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		before := d.SQL()
		ok(t, d.Close())
		for name, handle := range map[string]*sql.DB{
			"made before": before, "asked for again": d.SQL(), "made after": d.SQL(sqlscope.JoinBegin()),
		} {
			if err := handle.PingContext(t.Context()); err == nil || err.Error() != "sql: database is closed" {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestTheDriverOfTheHandleIsThatOfThePool(t *testing.T) {
	onEach(t, func(t *testing.T, d *opened) {
		if got, want := reflect.TypeOf(d.SQL().Driver()), reflect.TypeOf(d.other.Driver()); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestTheDriverOfTheHandleIsKnownBeforeThereIsAHost(t *testing.T) {
	db := sqlscope.Open("mysql", "app@tcp({host}:3306)/shop")
	t.Cleanup(func() { ok(t, db.Close()) })
	if got := reflect.TypeOf(db.SQL().Driver()).String(); got != "*mysql.MySQLDriver" {
		t.Error(got)
	}
}

func TestTheDriverOfAHandleWhosePoolCannotBeOpenedSaysWhy(t *testing.T) {
	for name, db := range map[string]*sqlscope.DB{
		"unknown": sqlscope.Open("no such driver", "x"),
		"refused": sqlscope.New(func(context.Context, string) (*sql.DB, error) { return nil, errStop }),
	} {
		t.Cleanup(func() { _ = db.Close() })
		_, err := db.SQL().Driver().Open("x")
		if err == nil || name == "refused" && !errors.Is(err, errStop) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
