package libraries_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	watermillsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/tests/libraries"
)

type packArgs struct {
	Book string `json:"book"`
}

// Kind implements [river.JobArgs].
func (packArgs) Kind() string { return "pack" }

// migrateRiver creates river's tables.
func migrateRiver(t *testing.T, s *shop) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), s.dsn)
	ok(t, err)
	defer pool.Close()
	m, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	ok(t, err)
	_, err = m.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	ok(t, err)
}

func (s *shop) openGORM(t *testing.T) (orm libraries.Program) {
	ok(t, s.SetUp(func(handle *sql.DB) (err error) {
		orm, err = libraries.OpenGORM(handle, s.dialect)
		return err
	}))
	return orm
}

func TestGORMAndSQLCAndRiverAreInOneTransactionOfPgx(t *testing.T) {
	onEach(t, "postgres", func(t *testing.T, s *shop) {
		if s.pgx == nil {
			t.Skip("it is for pgx")
		}
		migrateRiver(t, s)
		orm, generated := s.openGORM(t), libraries.OpenSQLCPgx(s.pgx)
		jobs, err := river.NewClient(riverpgxv5.New(nil), &river.Config{})
		ok(t, err)
		oneTransaction(t, s, orm, generated, func(ctx context.Context) error {
			tx, err := s.pgx.Session(ctx)
			if err != nil {
				return err
			}
			_, err = jobs.InsertTx(ctx, tx, packArgs{"a"}, nil)
			return err
		})
	})
}

func TestGORMAndSQLCAndRiverAreInOneTransactionOfDatabaseSQL(t *testing.T) {
	onEach(t, "postgres", func(t *testing.T, s *shop) {
		migrateRiver(t, s)
		orm := s.openGORM(t)
		generated, err := libraries.OpenSQLC(s.SQL(), s.dialect)
		ok(t, err)
		// Its client is made once, over the handle, and inserts in the unit of its context.
		jobs, err := river.NewClient(riverdatabasesql.New(s.SQL()), &river.Config{})
		ok(t, err)
		oneTransaction(t, s, orm, generated, func(ctx context.Context) error {
			_, err := jobs.Insert(ctx, packArgs{"a"}, nil)
			return err
		})
		if s.sql == nil {
			return
		}
		oneTransaction(t, s, orm, generated, func(ctx context.Context) error {
			tx, err := s.sql.Session(ctx)
			if err != nil {
				return err
			}
			_, err = jobs.InsertTx(ctx, tx, packArgs{"a"}, nil)
			return err
		})
	})
}

func TestGORMAndSQLCAndRiverAreInOneTransactionOfSQLite(t *testing.T) {
	onEach(t, "sqlite", func(t *testing.T, s *shop) {
		m, err := rivermigrate.New(riversqlite.New(s.other), nil)
		ok(t, err)
		_, err = m.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
		ok(t, err)
		orm := s.openGORM(t)
		generated, err := libraries.OpenSQLC(s.SQL(), s.dialect)
		ok(t, err)
		jobs, err := river.NewClient(riversqlite.New(s.SQL()), &river.Config{})
		ok(t, err)
		oneTransaction(t, s, orm, generated, func(ctx context.Context) error {
			_, err := jobs.Insert(ctx, packArgs{"a"}, nil)
			return err
		})
		oneTransaction(t, s, orm, generated, func(ctx context.Context) error {
			tx, err := s.sql.Session(ctx)
			if err != nil {
				return err
			}
			_, err = jobs.InsertTx(ctx, tx, packArgs{"a"}, nil)
			return err
		})
	})
}

// oneTransaction expects the books of two libraries and a job to be stored together, or
// not at all.
func oneTransaction(t *testing.T, s *shop, orm, generated libraries.Program, job func(ctx context.Context) error) {
	t.Helper()
	jobs := func() (n int) {
		ok(t, s.other.QueryRow("SELECT count(*) FROM river_job").Scan(&n))
		return n
	}
	before := jobs()
	for _, end := range []error{errStop, nil} {
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, orm.Add(ctx, "by GORM", "a"))
			ok(t, generated.Add(ctx, "by sqlc", "b"))
			ok(t, job(ctx))
			n, err := s.count(ctx, "SELECT count(*) FROM river_job")
			ok(t, err)
			if n != before+1 || jobs() != before {
				t.Errorf("%d jobs inside, %d outside", n, jobs())
			}
			titles, err := generated.Titles(ctx, "by GORM")
			equal(t, "titles", titles, "a")
			s.want(t, 0, 0)
			if err != nil {
				return err
			}
			return end
		}), end)
	}
	s.want(t, 2, 2)
	if n := jobs(); n != before+1 {
		t.Errorf("%d jobs", n)
	}
	clear(t, s)
}

// The publisher is made once, over the handle; the context of a message says whose it is.
func TestAMessageOfWatermillIsPublishedWithTheUnitOfItsContext(t *testing.T) {
	onEach(t, "postgres", func(t *testing.T, s *shop) {
		publishes(t, s, watermillsql.DefaultPostgreSQLSchema{}, watermillsql.DefaultPostgreSQLOffsetsAdapter{})
	})
	onEach(t, "mysql", func(t *testing.T, s *shop) {
		publishes(t, s, watermillsql.DefaultMySQLSchema{}, watermillsql.DefaultMySQLOffsetsAdapter{})
	})
}

func publishes(t *testing.T, s *shop, schema watermillsql.SchemaAdapter, offsets watermillsql.OffsetsAdapter) {
	// What reads has a pool of its own, and creates the tables.
	subscriber, err := watermillsql.NewSubscriber(watermillsql.BeginnerFromStdSQL(s.other), watermillsql.SubscriberConfig{
		SchemaAdapter: schema, OffsetsAdapter: offsets, InitializeSchema: true, PollInterval: 10 * time.Millisecond,
	}, watermill.NopLogger{})
	ok(t, err)
	defer func() { ok(t, subscriber.Close()) }()
	ok(t, subscriber.SubscribeInitialize("books"))
	messages, err := subscriber.Subscribe(t.Context(), "books")
	ok(t, err)

	publisher, err := watermillsql.NewPublisher(watermillsql.BeginnerFromStdSQL(s.SQL()), watermillsql.PublisherConfig{SchemaAdapter: schema}, watermill.NopLogger{})
	ok(t, err)
	for _, end := range []error{errStop, nil} {
		is(t, dbscope.Run(t.Context(), func(ctx context.Context) error {
			ok(t, s.exec(ctx, "INSERT INTO authors (name) VALUES ('by hand')"))
			payload := `"undone"`
			if end == nil {
				payload = `"stored"`
			}
			ok(t, publisher.Publish("books", message.NewMessageWithContext(ctx, watermill.NewUUID(), []byte(payload))))
			return end
		}), end)
	}
	select {
	case m := <-messages:
		if string(m.Payload) != `"stored"` {
			t.Errorf("the message is %s", m.Payload)
		}
		m.Ack()
	case <-time.After(time.Minute):
		t.Error("no message came")
	}
	s.want(t, 1, 0)
	clear(t, s)
}
