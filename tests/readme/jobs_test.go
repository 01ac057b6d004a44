package readme

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/drivertest"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/internal/pgtest"
)

var errNo = errors.New("no")

const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Main(m)) }

// R18.
func TestEachTickIsAUnitOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := slog.Default()
		defer slog.SetDefault(before)
		slog.SetDefault(slog.New(slog.DiscardHandler)) // one of them is meant to fail
		fake := drivertest.NewFake()
		db := fake.DB()
		ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute+time.Second)
		defer stop()
		n := 0
		repeat(ctx, time.Minute, func(ctx context.Context) error {
			n++
			err := drivertest.Exec(ctx, db, "row "+string(rune('0'+n)))
			if n == 2 {
				err = errNo
			}
			return err
		})
		if got := fake.Rows(); len(got) != 2 || got[0] != "row 1" || got[1] != "row 3" {
			t.Errorf("rows %q are stored", got)
		}
	})
}

func TestAMessageIsAUnitAndCountsOnce(t *testing.T) {
	db := sqlscope.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "stock.db")+"?_txlock=immediate&_pragma=busy_timeout(5000)")
	defer func() { _ = db.Close() }()
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, `
			CREATE TABLE stock (item TEXT PRIMARY KEY, n INTEGER NOT NULL);
			CREATE TABLE received (id TEXT PRIMARY KEY);
			INSERT INTO stock VALUES ('tea', 0), ('broken', 0)`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	queue := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, watermill.NopLogger{})
	failures := 0
	w := &warehouse{db}
	router.AddMiddleware(inUnit)
	router.AddConsumerHandler("warehouse", "received", queue, func(msg *message.Message) error {
		err := w.receive(msg)
		if string(msg.Payload) == "broken" && failures == 0 && err == nil {
			failures++ // after its statements
			err = errNo
		}
		return err
	})
	done := make(chan error, 1)
	go func() { done <- router.Run(t.Context()) }()
	<-router.Running()
	for _, m := range [][2]string{{"1", "tea"}, {"2", "tea"}, {"1", "tea"}, {"3", "broken"}} {
		if err := queue.Publish("received", message.NewMessage(m[0], []byte(m[1]))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(router.Close(), <-done, queue.Close()); err != nil {
		t.Error(err)
	}
	var tea, broken, messages int
	err = dbscope.Run(t.Context(), func(ctx context.Context) error {
		return db.QueryRowContext(ctx, `SELECT (SELECT n FROM stock WHERE item = 'tea'),
			(SELECT n FROM stock WHERE item = 'broken'), (SELECT count(*) FROM received)`).Scan(&tea, &broken, &messages)
	})
	if err != nil || tea != 2 || broken != 1 || messages != 3 || failures != 1 {
		t.Errorf("%d tea, %d broken, %d messages, %d failures: %v", tea, broken, messages, failures, err)
	}
}

func TestAMessageGetsItsContextBack(t *testing.T) {
	msg := message.NewMessage("1", nil)
	msg.SetContext(t.Context())
	_, err := inUnit(func(msg *message.Message) ([]*message.Message, error) {
		if _, ok := dbscope.FromContext(msg.Context()); !ok {
			t.Error("the handler has no scope")
		}
		return nil, errNo
	})(msg)
	if !errors.Is(err, errNo) || msg.Context() != t.Context() {
		t.Errorf("the error is %v, and the context another one: %t", err, msg.Context() != t.Context())
	}
}

// newParcels migrates a database for river and starts a client that works.
func newParcels(t *testing.T, middlewares ...rivertype.Middleware) (*parcels, <-chan *river.Event) {
	t.Helper()
	dsn := pgtest.Shared(t).CreateDatabase(t)
	db := pgxscope.Open(dsn)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	pool, err := db.Pool(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil); err != nil {
		t.Fatal(err)
	}
	pgtest.Shared(t).Query(t, dsn, `CREATE TABLE orders (id BIGSERIAL PRIMARY KEY, item TEXT, packed INTEGER NOT NULL DEFAULT 0)`)
	workers := river.NewWorkers()
	river.AddWorker(workers, &packer{db: db})
	river.AddWorker(workers, &noter{db: db})
	client, err := newRiver(t.Context(), db, &river.Config{
		Logger:     slog.New(slog.DiscardHandler),
		Queues:     map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2}},
		Workers:    workers,
		Middleware: middlewares,
		TestOnly:   true,
	})
	if err != nil {
		t.Fatal(err)
	}
	events, cancel := client.Subscribe(river.EventKindJobCompleted, river.EventKindJobFailed)
	t.Cleanup(cancel)
	if err := client.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := client.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return &parcels{db, client}, events
}

// query asks in a unit of its own.
func (p *parcels) query(t *testing.T, query string) (answer string) {
	t.Helper()
	err := dbscope.Run(t.Context(), func(ctx context.Context) error {
		return p.db.QueryRow(ctx, query).Scan(&answer)
	})
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func next(t *testing.T, events <-chan *river.Event) *river.Event {
	t.Helper()
	select {
	case e := <-events:
		return e
	case <-time.After(patience):
		t.Fatal("river did nothing")
		return nil
	}
}

func TestAnOrderAndItsJobAreStoredTogetherOrNotAtAll(t *testing.T) {
	p, events := newParcels(t)
	for _, c := range []struct {
		why  string
		undo func(ctx context.Context) error
		want error
	}{
		{"an error", func(context.Context) error { return errNo }, errNo},
		{"MarkRollback", dbscope.MarkRollback, dbscope.ErrRollbackOnly},
		{"", func(context.Context) error { return nil }, nil},
	} {
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			return errors.Join(p.order(ctx, "tea"), c.undo(ctx))
		})
		if !errors.Is(err, c.want) {
			t.Fatalf("the unit with %q ended with %v", c.why, err)
		}
		if c.want != nil {
			if got := p.query(t, `SELECT (SELECT count(*) FROM orders) || ' orders, ' || (SELECT count(*) FROM river_job) || ' jobs'`); got != "0 orders, 0 jobs" {
				t.Errorf("after a unit with %s there are %s", c.why, got)
			}
		}
	}
	if e := next(t, events); e.Kind != river.EventKindJobCompleted {
		t.Errorf("the job ended as %s: %v", e.Kind, e.Job.Errors)
	}
	if got := p.query(t, `SELECT packed || ' ' || (SELECT state FROM river_job) FROM orders`); got != "1 completed" {
		t.Errorf("the order is packed and the job is: %s", got)
	}
}

// The database refuses the commit of a unit whose statements all succeeded.
func TestAJobWhoseCommitFailsIsNotDone(t *testing.T) {
	p, events := newParcels(t)
	for _, statement := range []string{
		`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not packed'; END $$`,
		`CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`,
	} {
		err := dbscope.Run(t.Context(), func(ctx context.Context) error {
			_, err := p.db.Exec(ctx, statement)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := dbscope.Run(t.Context(), func(ctx context.Context) error { return p.order(ctx, "tea") }); err != nil {
		t.Fatal(err)
	}
	if e := next(t, events); e.Kind != river.EventKindJobFailed || len(e.Job.Errors) != 1 {
		t.Errorf("the job ended as %s: %v", e.Kind, e.Job.Errors)
	}
	// river tries again at once, so that the job may be in one of several states.
	if got := p.query(t, `SELECT packed || ' ' || (SELECT state = 'completed' FROM river_job) FROM orders`); got != "0 false" {
		t.Errorf("the order is packed and the job completed: %s", got)
	}
}

// noter works on a job in the unit of the middleware.
type noter struct {
	river.WorkerDefaults[noteArgs]
	db *pgxscope.DB
}

type noteArgs struct {
	Text string `json:"text"`
	Fail bool   `json:"fail"`
}

func (noteArgs) Kind() string { return "note" }

func (n *noter) Work(ctx context.Context, job *river.Job[noteArgs]) error {
	_, err := n.db.Exec(ctx, `INSERT INTO orders (item) VALUES ($1)`, job.Args.Text)
	if job.Args.Fail {
		err = errNo
	}
	return err
}

func TestAMiddlewareOfRiverMakesEachJobAUnit(t *testing.T) {
	p, events := newParcels(t, eachJobInUnit)
	for _, args := range []noteArgs{{"undone", true}, {"done", false}} {
		if _, err := p.jobs.Insert(t.Context(), args, nil); err != nil {
			t.Fatal(err)
		}
		want := map[bool]river.EventKind{true: river.EventKindJobFailed, false: river.EventKindJobCompleted}[args.Fail]
		if e := next(t, events); e.Kind != want {
			t.Errorf("the job ended as %s: %v", e.Kind, e.Job.Errors)
		}
	}
	if got := p.query(t, `SELECT string_agg(item, ' ') FROM orders`); got != "done" {
		t.Errorf("there are the rows %s", got)
	}
}
