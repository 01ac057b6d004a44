package readme

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/dbscope/dbscope"
	"github.com/dbscope/dbscope/driver/pgxscope"
	"github.com/dbscope/dbscope/driver/sqlscope"
)

var errWrongPassword = errors.New("wrong name or password")

// signUp hashes before it asks the database anything.
func signUp(ctx context.Context, name, password string, salt []byte) error {
	hash, err := pbkdf2.Key(sha256.New, password, salt, 600_000, 32) // a tenth of a second, and no connection
	if err != nil {
		return err
	}
	_, err = users.Exec(ctx, `INSERT INTO users (name, salt, hash) VALUES ($1, $2, $3)`, name, salt, hash)
	return err
}

// logIn needs the row before it can hash, and gives the connection back in between.
func logIn(ctx context.Context, name, password string) error {
	var salt, want []byte
	err := users.QueryRow(ctx, `SELECT salt, hash FROM users WHERE name = $1`, name).Scan(&salt, &want)
	if err != nil {
		return err
	}
	if err := users.Release(ctx); err != nil { // ends the transaction, too: what it wrote would be rolled back
		return err
	}
	hash, err := pbkdf2.Key(sha256.New, password, salt, 600_000, 32)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(hash, want) == 0 {
		return errWrongPassword
	}
	_, err = users.Exec(ctx, `UPDATE users SET seen = now() WHERE name = $1`, name) // another transaction
	return err
}

var users = pgxscope.Open("postgres://app@127.0.0.1/shop")

// oneAtATime lets no two units work for the same customer. The lock goes with
// the transaction, however it ends.
func oneAtATime(ctx context.Context, customer string) error {
	_, err := users.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, customer)
	return err
}

// Line is one of an import.
type Line struct {
	SKU string
	N   int
}

// importWhole stores all lines or none.
func importWhole(ctx context.Context, lines []Line) error {
	_, err := users.CopyFrom(ctx, pgx.Identifier{"stock"}, []string{"sku", "n"},
		pgx.CopyFromSlice(len(lines), func(i int) ([]any, error) { return []any{lines[i].SKU, lines[i].N}, nil }))
	return err
}

// importInParts stores a thousand lines at a time. What is stored stays, also
// where a later part fails; the result says how much that is.
func importInParts(ctx context.Context, lines []Line) (stored int, err error) {
	for part := range slices.Chunk(lines, 1000) {
		err := dbscope.Run(ctx, func(ctx context.Context) error { return importWhole(ctx, part) })
		if err != nil {
			return stored, err
		}
		stored += len(part)
	}
	return stored, nil
}

// export streams rows while it reads them. The request has to be read-only:
// httpscope.ReadOnlySafeMethods() makes a GET so.
func export(w http.ResponseWriter, r *http.Request) {
	rows, err := users.Query(r.Context(), `SELECT sku, n FROM stock ORDER BY sku`)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	defer rows.Close()
	out := json.NewEncoder(w)
	for rows.Next() {
		var line Line
		if err := rows.Scan(&line.SKU, &line.N); err != nil {
			panic(http.ErrAbortHandler) // the client sees that the answer is not whole
		}
		if err := out.Encode(line); err != nil {
			return // the client has gone
		}
	}
	if rows.Err() != nil {
		panic(http.ErrAbortHandler)
	}
}

// watch sends events for hours. Between two of them it holds no connection.
func watch(changes <-chan string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			select {
			case <-r.Context().Done():
				return
			case sku := <-changes:
				var n int
				err := dbscope.Run(r.Context(), func(ctx context.Context) error { // a unit for each event
					return users.QueryRow(ctx, `SELECT n FROM stock WHERE sku = $1`, sku).Scan(&n)
				}, dbscope.ReadOnly())
				if err != nil {
					return
				}
				if _, err := fmt.Fprintf(w, "data: %s %d\n\n", sku, n); err != nil {
					return
				}
				if err := http.NewResponseController(w).Flush(); err != nil {
					return
				}
			}
		}
	}
}

// later starts the work when the request's unit is committed, and does not
// keep the client waiting. It is lost where the program ends before it is done.
func later(ctx context.Context, work func(context.Context) error) error {
	return dbscope.AfterCommit(ctx, func(ctx context.Context) error {
		ctx = context.WithoutCancel(ctx) // the work outlives the request
		go func() {
			if err := dbscope.Run(ctx, work); err != nil {
				slog.ErrorContext(ctx, "work after a request failed", "error", err)
			}
		}()
		return nil
	})
}

// publishNext takes the oldest event out of the outbox and publishes it. An
// event is published again where the commit fails: at least once.
func publishNext(ctx context.Context, publish func(ctx context.Context, event string) error) (found bool, err error) {
	err = dbscope.Run(ctx, func(ctx context.Context) error {
		var event string
		err := users.QueryRow(ctx, `DELETE FROM outbox WHERE id = (
			SELECT id FROM outbox ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING event`).Scan(&event)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		found = true
		return publish(ctx, event)
	})
	return found, err
}

// For a service on SQLite.
var local = sqlscope.Open("sqlite",
	"file:local.db?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)")

var _, _, _, _, _, _, _, _, _, _ = signUp, logIn, oneAtATime, importInParts, export, watch, later, publishNext, local, Line{}
