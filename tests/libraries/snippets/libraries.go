// Package snippets holds those of docs/libraries.md and docs/orm-and-river.md, so that
// they compile.
package snippets

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/Masterminds/squirrel"
	"github.com/ThreeDotsLabs/watermill"
	watermillsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/XSAM/otelsql"
	"github.com/doug-martin/goqu/v9"
	"github.com/exaring/otelpgx"
	"github.com/georgysavva/scany/v2/sqlscan"
	"github.com/golang-migrate/migrate/v4"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/pressly/goose/v3"
	"github.com/stephenafamo/bob"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"

	books "github.com/dbscope/dbscope/tests/libraries/sqlc/pgbooks"
	pgxbooks "github.com/dbscope/dbscope/tests/libraries/sqlc/pgxbooks"

	jetdb "github.com/go-jet/jet/v2/postgres"

	"github.com/dbscope/dbscope/tests/libraries/ent"
)

var shop = sqlscope.Open("pgx", "postgres://app@127.0.0.1/shop")

var orm *gorm.DB

// Once, at start. GORM closes the handle where it fails to open.
func openGORM() error {
	return shop.SetUp(func(handle *sql.DB) (err error) {
		orm, err = gorm.Open(postgres.New(postgres.Config{Conn: handle}), &gorm.Config{})
		return err
	})
}

var bunDB = bun.NewDB(shop.SQL(), pgdialect.New())

var client = ent.NewClient(ent.Driver(entsql.OpenDB(dialect.Postgres, shop.SQL())))

var x = sqlx.NewDb(shop.SQL(), "pgx") // by the driver's name sqlx knows the placeholders

var queries = books.New(shop) // the DB of sqlscope is the generated code's DBTX

// inTx is for code that wants a *sql.Tx.
func inTx(ctx context.Context, name string) error {
	tx, err := shop.Session(ctx)
	if err != nil {
		return err
	}
	return queries.WithTx(tx).AddAuthor(ctx, name)
}

var pgxShop = pgxscope.Open("postgres://app@127.0.0.1/shop")

var pgxQueries = pgxbooks.New(pgxShop) // so is that of pgxscope, for code that was generated for pgx

var build = squirrel.StatementBuilder.PlaceholderFormat(squirrel.Dollar).RunWith(shop.SQL())

var goquDB = goqu.New("postgres", shop.SQL())

func names(ctx context.Context) (all []string, err error) {
	query := jetdb.SELECT(jetdb.StringColumn("name")).FROM(jetdb.NewTable("", "authors", ""))
	err = query.QueryContext(ctx, shop.SQL(), &all)
	return all, err
}

var bobDB = bob.NewDB(shop.SQL())

func scanned(ctx context.Context) (all []string, err error) {
	err = sqlscan.Select(ctx, shop, &all, "SELECT name FROM authors") // or pgxscan, with the DB of pgxscope
	return all, err
}

// migrateByGoose runs at start. On MariaDB and MySQL give goose the pool that shop.Engine
// returns, and do not close it.
func migrateByGoose(ctx context.Context, files fs.FS) error {
	return shop.SetUp(func(handle *sql.DB) error {
		provider, err := goose.NewProvider(goose.DialectPostgres, handle, files)
		if err != nil {
			return err
		}
		_, err = provider.Up(ctx)
		return errors.Join(err, provider.Close())
	})
}

// migrateByMigrate runs at start.
func migrateByMigrate(files fs.FS) error {
	return shop.SetUp(func(handle *sql.DB) error {
		target, err := migratepgx.WithInstance(handle, &migratepgx.Config{})
		if err != nil {
			return err
		}
		source, err := iofs.New(files, ".")
		if err != nil {
			return err
		}
		m, err := migrate.NewWithInstance("files", source, "pgx5", target)
		if err != nil {
			return err
		}
		if err = m.Up(); errors.Is(err, migrate.ErrNoChange) {
			err = nil
		}
		failed, closed := m.Close()
		return errors.Join(err, failed, closed)
	})
}

// newPublisher makes one for the life of the service.
func newPublisher() (message.Publisher, error) {
	config := watermillsql.PublisherConfig{SchemaAdapter: watermillsql.DefaultPostgreSQLSchema{}}
	return watermillsql.NewPublisher(watermillsql.BeginnerFromStdSQL(shop.SQL()), config, watermill.NopLogger{})
}

// publish stores a message with the unit of ctx.
func publish(ctx context.Context, publisher message.Publisher, payload []byte) error {
	return publisher.Publish("books", message.NewMessageWithContext(ctx, watermill.NewUUID(), payload))
}

// Below: each statement, BEGIN and COMMIT of a unit is a span of its request's.
var traced = sqlscope.New(func(context.Context, string) (*sql.DB, error) {
	return otelsql.Open("pgx", "postgres://app@127.0.0.1/shop")
})

var tracedPgx = pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig("postgres://app@127.0.0.1/shop")
	if err != nil {
		return nil, err
	}
	config.ConnConfig.Tracer = otelpgx.NewTracer()
	pgxscope.Configure(config)
	return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
})

// copyBooks uses what only pgx has, in the unit's transaction.
func copyBooks(ctx context.Context, rows [][]any) error {
	return shop.Raw(ctx, func(driverConn any) error {
		conn := driverConn.(*stdlib.Conn).Conn() // with pgxscope it is pgxShop.CopyFrom, or the handle's Conn
		_, err := conn.CopyFrom(ctx, pgx.Identifier{"books"}, []string{"author_id", "title"}, pgx.CopyFromRows(rows))
		return err
	})
}

// relations loads two relations side by side, each in a unit of its own that reads.
func relations(ctx context.Context, author int) (titles, others []string, err error) {
	g := dbscope.NewGroup(ctx)
	g.Go(func(ctx context.Context) error {
		return orm.WithContext(ctx).Table("books").Where("author_id = ?", author).Pluck("title", &titles).Error
	})
	g.Go(func(ctx context.Context) error {
		return orm.WithContext(ctx).Table("authors").Where("id <> ?", author).Pluck("name", &others).Error
	})
	err = g.Wait()
	return titles, others, err
}

var _, _, _, _, _, _, _, _, _ = openGORM, bunDB, client, x, inTx, pgxQueries, build, goquDB, names

var _, _, _, _, _, _, _, _, _ = bobDB, scanned, migrateByGoose, migrateByMigrate, newPublisher, publish, traced, tracedPgx, copyBooks

var _ = relations
