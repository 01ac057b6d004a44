package secrets_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

// use returns the error of a unit's first statement, where no part of the password
// is in it.
func use(t *testing.T, what string, db database, password string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := dbscope.Run(ctx, func(ctx context.Context) error { _, err := db.SQL().ExecContext(ctx, "SELECT 1"); return err })
	if err == nil {
		t.Fatalf("%s: it works", what)
	}
	witness{t, what, parts(password)}.tree("the error", err)
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	return err
}

const secret = "ZQXJ-VKWY"

// Where nothing in it can be a part of the password.
func TestTheErrorOfADriverStaysAsItIs(t *testing.T) {
	for _, library := range []string{"pgxscope", "pgx"} {
		for _, dsn := range []string{
			"postgres://app:" + secret + "@127.0.0.1:1/shop?sslmode=disable",
			"host=127.0.0.1 port=1 user=app dbname=shop sslmode=disable password=" + secret,
			"postgres://postgres:postgres@127.0.0.1:1/postgres?sslmode=disable", // what is public is so as a password too
		} {
			err := use(t, library, openers[library](dsn), secret)
			if e := (*pgconn.ConnectError)(nil); !errors.As(err, &e) || !errors.Is(err, syscall.ECONNREFUSED) ||
				!strings.Contains(err.Error(), "failed to connect to `user=") || !strings.Contains(err.Error(), "127.0.0.1:1") {
				t.Errorf("%s: %q: %v", library, dsn, err)
			}
		}
	}
	err := use(t, "mysql", openers["mysql"]("app:"+secret+"@tcp(127.0.0.1:1)/shop"), secret)
	if !strings.HasPrefix(err.Error(), "dbscope: shop: ") || !strings.Contains(err.Error(), "dial tcp 127.0.0.1:1: connect: connection refused") {
		t.Error(err)
	}
}

// Its type is not, since it prints the connection string with %#v.
func TestTheTextOfAnErrorStaysWhereItHoldsNoSecret(t *testing.T) {
	dsn := "postgres://app:" + secret + "@127.0.0.1:1/shop?pool_max_conns=none"
	err := use(t, dsn, pgxscope.Open(dsn), secret)
	if e := (*pgconn.ParseConfigError)(nil); errors.As(err, &e) || !strings.Contains(err.Error(), "cannot parse pool_max_conns") {
		t.Error(err)
	}
	without := "postgres://app@127.0.0.1:1/shop?pool_max_conns=none"
	err = use(t, without, pgxscope.Open(without), secret)
	if e := (*pgconn.ParseConfigError)(nil); !errors.As(err, &e) {
		t.Error(err)
	}
}

func TestAnErrorThatIsNotShownSaysWhatIsSafeAndWhatToDo(t *testing.T) {
	for _, library := range []string{"pgxscope", "pgx"} {
		// Taken for the host app and the port ZQXJ-VKWY, and without the slash for a database.
		dsn := "postgres://app:1/" + secret + "@127.0.0.1/shop?sslmode=disable"
		err := use(t, library, openers[library](dsn), secret)
		for _, want := range []string{"is not shown", "have to be escaped in the password"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not say %q: %v", library, want, err)
			}
		}
	}
	err := use(t, "pgx", openers["pgx"]("host=127.0.0.1 port=1 user=app user=app sslmode=disable password="+secret), secret)
	if !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("the error is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	db := openers["pgx"]("postgres://app:1/" + secret + "@127.0.0.1/shop")
	err = dbscope.Run(ctx, func(ctx context.Context) error { _, err := db.SQL().ExecContext(ctx, "SELECT 1"); return err })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// The pool knows how it connects, whoever has made it.
func TestAPoolOfOnesOwnShowsNoPasswordEither(t *testing.T) {
	open := func(dsn string, change func(*pgxpool.Config)) database {
		return pgxscope.New(func(ctx context.Context, _ string) (*pgxpool.Pool, error) {
			config, err := pgxpool.ParseConfig(dsn)
			if err != nil {
				return nil, err
			}
			change(config)
			return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
		})
	}
	nothing := func(*pgxpool.Config) {}
	shown := func(config *pgxpool.Config) { // as one may have it by mistake
		config.ConnConfig.Password = secret
		config.ConnConfig.Database = secret
	}
	later := func(config *pgxpool.Config) {
		config.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) error {
			config.Password, config.User = secret, secret
			return nil
		}
	}
	_ = use(t, "a malformed string", open("postgres://app:"+secret+"/x@127.0.0.1:1/shop", nothing), secret)
	_ = use(t, "another one", open("postgres://app:"+secret+"@127.0.0.1:1/shop?pool_max_conns=none", nothing), secret)
	_ = use(t, "one that is misread", open("postgres://app:1/"+secret+"@127.0.0.1:1/shop", nothing), secret)
	_ = use(t, "one set afterwards", open("postgres://app@127.0.0.1:1/shop?sslmode=disable", shown), secret)
	_ = use(t, "one of each connection", open("postgres://app@127.0.0.1:1/shop?sslmode=disable", later), secret)
}

// Of a pool of database/sql nobody knows how it connects: just errors that quote.
func TestAFunctionThatCannotOpenAPoolShowsNoPassword(t *testing.T) {
	for _, driver := range []string{"pgx", "postgres", "mysql"} {
		for _, dsn := range []string{
			"postgres://app:" + secret + "?x@127.0.0.1:1/shop", "host=127.0.0.1 port=1 password='" + secret, "host=127.0.0.1 password=x " + secret,
			"app:x@tcp(127.0.0.1:1)/shop?parseTime=" + secret, "app:x@tcp(127.0.0.1:1)/shop?timeout=" + secret,
		} {
			_ = use(t, driver+" "+dsn, sqlscope.New(func(context.Context, string) (*sql.DB, error) {
				pool, err := sql.Open(driver, dsn)
				if err == nil {
					err = errors.Join(pool.PingContext(t.Context()), pool.Close())
				}
				return nil, err
			}), secret)
		}
	}
}

func TestWhatTheEnvironmentHasIsNotShown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "service")
	if err := os.WriteFile(file, []byte("[shop]\nhost=127.0.0.1\nport=1\n"+secret+" password\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dsn := "host=127.0.0.1 port=1 dbname=shop sslmode=disable"
	for _, library := range []string{"pgxscope", "pgx", "lib/pq"} {
		_ = use(t, library, openers[library]("service=shop servicefile="+file+" dbname=shop"), secret)
		t.Run(library, func(t *testing.T) {
			t.Setenv("PGSERVICEFILE", file)
			t.Setenv("PGSERVICE", "shop")
			_ = use(t, library, openers[library](dsn), secret)
		})
		t.Run(library, func(t *testing.T) {
			t.Setenv("PGPASSWORD", secret)
			t.Setenv("PGUSER", secret) // as one may have it by mistake
			_ = use(t, library, openers[library](dsn), secret)
		})
	}
}
