package idempotent_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dbscope/dbscope/internal/child"
	"github.com/dbscope/dbscope/middleware/httpscope"
	"github.com/dbscope/dbscope/middleware/idempotent"
)

// victim is the service in a process of its own, which can be killed. It is this test
// binary, with a variable that says what it serves.
type victim struct {
	t      *testing.T
	order  string // the variable
	port   int
	log    tail
	mu     sync.Mutex
	proc   *child.Process
	killed int
}

const victimVariable = "DBSCOPE_IDEMPOTENT_SERVICE"

// victimOrder is what it is told.
type victimOrder struct {
	Database string
	DSN      string
	Addr     string
}

func startVictim(t *testing.T, d *database, dsn string) *victim {
	t.Helper()
	port, err := child.FreePort()
	must(t, err)
	v := &victim{t: t, port: port}
	order, err := json.Marshal(victimOrder{d.name, dsn, v.addr()})
	must(t, err)
	v.order = string(order)
	v.start()
	t.Cleanup(func() {
		v.kill(syscall.SIGTERM)
		text := v.log.String()
		if strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic:") {
			t.Error("the service has panicked, or has a data race")
		}
		if t.Failed() {
			t.Logf("the service has written:\n%s", text[max(0, len(text)-20_000):])
		}
	})
	return v
}

func (v *victim) addr() string { return "127.0.0.1:" + strconv.Itoa(v.port) }

func (v *victim) start() {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimVariable+"="+v.order)
	cmd.Stdout, cmd.Stderr = &v.log, &v.log
	proc, err := child.Start(cmd, nil)
	must(v.t, err)
	ready := func() bool {
		conn, err := net.Dial("tcp", v.addr())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}
	must(v.t, proc.Ready(ready, time.Minute, os.TempDir()))
	v.mu.Lock()
	v.proc = proc
	v.mu.Unlock()
}

// kill ends the process.
func (v *victim) kill(sig syscall.Signal) {
	v.mu.Lock()
	proc := v.proc
	v.proc = nil
	v.mu.Unlock()
	if proc != nil {
		must(v.t, proc.End(sig, "/nowhere"))
		v.killed++
	}
}

// tail keeps the end of what is written.
type tail struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text.Len() > 1<<20 {
		l.text.Reset()
	}
	return l.text.Write(p)
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// serveOrder is the process. It returns when it is told to end.
func serveOrder(text string) error {
	var order victimOrder
	if err := json.Unmarshal([]byte(text), &order); err != nil {
		return err
	}
	i := slices.IndexFunc(databases, func(d database) bool { return d.name == order.Database })
	d := &opened{database: &databases[i]}
	d.scoped = d.openDB(order.DSN)
	told := func(r *http.Request, err error) {
		log.Printf("%s: %v", r.Header.Get("Idempotency-Key"), err)
	}
	handler := idempotent.Middleware(d.scoped, idempotent.Anybody, idempotent.Required(), idempotent.Wait(2*time.Second), idempotent.OnError(told))
	server := &http.Server{
		Addr:     order.Addr,
		Handler:  httpscope.Middleware(httpscope.OnError(told))(handler(http.HandlerFunc(d.serveVictim))),
		ErrorLog: log.New(io.Discard, "", 0), // panics are meant
	}
	ended := make(chan os.Signal, 1)
	go func() {
		<-ended
		_ = server.Close()
	}()
	signal.Notify(ended, syscall.SIGTERM)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return d.Close()
}

// serveVictim stores the order whose name is the body, together with something that is
// different each time, which is the answer. Some attempts fail in one way or another.
func (d *opened) serveVictim(w http.ResponseWriter, r *http.Request) {
	name, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer := string(name) + " " + rand.Text()
	if err := d.place(r.Context(), answer); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	switch n := mathrand.IntN(100); {
	case n < 10:
		time.Sleep(time.Duration(n) * time.Millisecond)
	case n < 14:
		http.Error(w, "try again", http.StatusServiceUnavailable)
		return
	case n < 16:
		panic(http.ErrAbortHandler)
	case n < 18:
		_ = d.Rollback(r.Context())
		answer = string(name) + " " + rand.Text()
		if err := d.place(r.Context(), answer); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprint(w, answer)
}

// storedOrders returns what is stored, by the names of the orders.
func (d *opened) storedOrders(ctx context.Context) (map[string][]string, error) {
	rows, err := d.admin.QueryContext(ctx, "SELECT item FROM orders")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err tells
	all := map[string][]string{}
	for rows.Next() {
		var item string
		if err := rows.Scan(&item); err != nil {
			return nil, err
		}
		name, _, _ := strings.Cut(item, " ")
		all[name] = append(all[name], item)
	}
	return all, rows.Err()
}
