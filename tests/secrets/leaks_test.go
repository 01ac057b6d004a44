package secrets_test

import (
	"bytes"
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver "mysql"
	"github.com/gofiber/fiber/v3"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "github.com/lib/pq"              // the driver "postgres"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/cluster"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
	"github.com/dbscope/dbscope/middleware/fiberscope"
	"github.com/dbscope/dbscope/middleware/httpscope"
)

// database is what both adapters have.
type database interface {
	dbscope.Database
	SQL(opts ...sqlscope.SQLOption) *sql.DB
	SwitchHost(ctx context.Context, host string) error
	Close() error
}

// openers open a data source name, each by another library.
var openers = map[string]func(dsn string, opts ...dbscope.DBOption) database{
	"pgxscope": func(dsn string, opts ...dbscope.DBOption) database { return pgxscope.Open(dsn, opts...) },
	"pgx":      over("pgx"),
	"lib/pq":   over("postgres"),
	"mysql":    over("mysql"),
	"sqlite":   inNoFolder,
	"gossip":   over("gossip"), // a driver that nobody knows
	"nosuch":   over("nosuch"),
}

// libraries are the keys of openers in an order that stays.
var libraries = []string{"pgxscope", "pgx", "lib/pq", "mysql", "sqlite", "gossip", "nosuch"}

// inNoFolder opens what SQLite, for which any text is the name of a file, would
// else make a file of, however many times it goes up by two dots.
func inNoFolder(dsn string, opts ...dbscope.DBOption) database {
	if !strings.HasPrefix(dsn, "file:/nowhere/") && !strings.HasPrefix(dsn, "/nowhere/") {
		dsn = strings.Repeat("/nowhere", 80) + "/" + dsn
	}
	return sqlscope.Open("sqlite", dsn, opts...)
}

func over(driver string) func(string, ...dbscope.DBOption) database {
	return func(dsn string, opts ...dbscope.DBOption) database { return sqlscope.Open(driver, dsn, opts...) }
}

// gossip is a driver whose errors have the data source name in many ways.
type gossip struct{}

type gossipError struct{ DSN string }

func (e gossipError) Error() string { return "cannot open the database" }

func (gossip) Open(dsn string) (sqldriver.Conn, error) {
	half := dsn[len(dsn)/2:]
	return nil, errors.Join(
		fmt.Errorf("cannot open %s", dsn), fmt.Errorf("cannot open %q: %w", dsn, io.ErrUnexpectedEOF), fmt.Errorf("near %q", half),
		errors.New(strings.ToLower(dsn)), gossipError{dsn}, &gossipError{half},
	)
}

func init() { sql.Register("gossip", gossip{}) }

// witness looks for a password.
type witness struct {
	t     *testing.T
	what  string
	parts []string
}

// pointers are no part of what an error tells.
var pointers = regexp.MustCompile(`0x[0-9a-f]+`)

func (w witness) text(where, text string) {
	w.t.Helper()
	for _, part := range w.parts {
		if strings.Contains(text, part) || strings.Contains(text, strings.ToLower(part)) {
			w.t.Fatalf("%s: %s holds %q: %s", w.what, where, part, text)
		}
	}
}

// tree looks at an error, and at all that it wraps, in every way they print.
func (w witness) tree(where string, err error) {
	w.t.Helper()
	if err == nil {
		return
	}
	w.text(where, err.Error())
	w.text(where, fmt.Sprintf("%+v", err))
	w.text(where, pointers.ReplaceAllString(fmt.Sprintf("%#v", err), ""))
	switch e := err.(type) { //nolint:errorlint // each by itself
	case interface{ Unwrap() error }:
		w.tree(where, e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			w.tree(where, err)
		}
	}
}

// logged is all that was logged.
var logged struct {
	sync.Mutex
	bytes.Buffer
}

type locked struct{}

func (locked) Write(p []byte) (int, error) {
	logged.Lock()
	defer logged.Unlock()
	return logged.Write(p)
}

func takeLog() string {
	logged.Lock()
	defer logged.Unlock()
	defer logged.Reset()
	return logged.String()
}

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.NewJSONHandler(locked{}, nil)))
	m.Run()
}

// nothingLeaks uses a database in all ways that end in an error or a log line.
func nothingLeaks(t *testing.T, library, form, raw string) {
	pw := password(raw)
	w := witness{t, fmt.Sprintf("%s, %q", library, write(form, pw)), append(parts(pw), parts(write("ESCAPED", pw))...)}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()

	db := openers[library](write(form, pw))
	statement := func(ctx context.Context) error { _, err := db.SQL().ExecContext(ctx, "SELECT nonsense"); return err }
	w.tree("the first use", dbscope.Run(ctx, statement))
	w.tree("Ping", db.SQL().PingContext(ctx))
	_, err := dbscope.Gate(db).Engine(ctx)
	w.tree("the pool", err)
	w.tree("SwitchHost", db.SwitchHost(ctx, "127.0.0.1:1"))
	w.http(ctx, statement)
	w.fiber(ctx, statement)
	w.tree("Close", db.Close())
	w.text("the log", takeLog())
}

// http looks at the answer of a handler that shows its error, and of one that
// leaves it to the commit.
func (w witness) http(ctx context.Context, statement func(context.Context) error) {
	for _, show := range []bool{true, false} {
		answer := httptest.NewRecorder()
		httpscope.Middleware()(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
			err := statement(r.Context())
			slog.ErrorContext(ctx, "request failed", "error", err)
			if show && err != nil {
				http.Error(out, err.Error(), http.StatusServiceUnavailable)
			}
		})).ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodPost, "/", nil))
		w.text("the answer over HTTP", fmt.Sprint(answer.Header(), answer.Body))
	}
}

func (w witness) fiber(ctx context.Context, statement func(context.Context) error) {
	app := fiber.New()
	app.Use(fiberscope.Middleware())
	app.Post("/", func(c fiber.Ctx) error { return statement(c.Context()) })
	answer, err := app.Test(httptest.NewRequestWithContext(ctx, http.MethodPost, "/", nil), fiber.TestConfig{Timeout: 3 * time.Second})
	if err != nil {
		return // nobody got an answer
	}
	body, _ := io.ReadAll(answer.Body)
	w.text("the answer of fiber", fmt.Sprint(answer.Header, string(body)))
}

// nothingLeaksFromACluster looks at what a cluster knows and says of its hosts.
func nothingLeaksFromACluster(t *testing.T, library, form, raw string) {
	pw := password(raw)
	dsn := strings.ReplaceAll(write(form, pw), "127.0.0.1:1", "{host}")
	w := witness{t, fmt.Sprintf("%s, %q", library, dsn), append(parts(pw), parts(write("ESCAPED", pw))...)}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	nodes := cluster.New(cluster.List("127.0.0.1:1", "127.0.0.1:2"), cluster.Wait(50*time.Millisecond))
	db := openers[library](dsn, dbscope.Router(nodes))
	w.tree("the first use", dbscope.Run(ctx, func(ctx context.Context) error {
		_, err := db.SQL().ExecContext(ctx, "SELECT nonsense")
		return err
	}))
	for _, n := range nodes.Nodes() {
		w.tree("a node", n.Err)
	}
	w.tree("Close", db.Close())
	w.text("the log", takeLog())
}
