// Cluster runs three PostgreSQL servers with Patroni on this machine, for other
// examples to work on while the primary fails:
//
//	go run ./examples/cluster
//
// It prints where the servers are and who is the primary, again whenever that
// changes. Keys, and from another terminal
//
//	go run ./examples/cluster -kill
//
// let faults happen to the primary. Ctrl-C ends and removes everything. It
// needs Linux, PostgreSQL, patroni and etcd, which make setup installs, and
// nobody's rights but your own.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dbscope/dbscope/internal/patronitest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run is main with its surroundings as arguments. It returns when ctx is done.
func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	control := flags.String("control", "127.0.0.1:8090", "address on which to hear of -kill")
	kill := flags.Bool("kill", false, "kill the primary of the cluster that runs in another terminal")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *kill {
		return askToKill(ctx, *control, out)
	}
	listener, err := net.Listen("tcp", *control)
	if err != nil {
		return fmt.Errorf("one cluster runs already, or -control must name another address: %w", err)
	}
	d := &demonstration{out: out, strikes: make(chan patronitest.Fault)}
	return d.run(ctx, listener, in)
}

func askToKill(ctx context.Context, control string, out io.Writer) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+control+"/kill", http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("no cluster runs; start one with go run ./examples/cluster: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(out, response.Body)
	return err
}

// demonstration is a cluster with somebody who watches it.
type demonstration struct {
	cluster *patronitest.Cluster
	strikes chan patronitest.Fault // taken while none is under way

	mu  sync.Mutex
	out io.Writer
}

func (d *demonstration) run(ctx context.Context, listener net.Listener, in io.Reader) (err error) {
	server := &http.Server{Handler: d.control(), ReadHeaderTimeout: 5 * time.Second}
	defer func() { _ = server.Close() }() // nothing of it is worth waiting for
	begin := time.Now()
	d.say("starting etcd and three nodes")
	if d.cluster, err = patronitest.New(ctx); err != nil {
		return errors.Join(err, listener.Close())
	}
	defer func() { err = errors.Join(err, d.cluster.Close()) }()
	d.say("healthy after %.1f s", time.Since(begin).Seconds())
	d.introduce()

	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { d.watch(ctx) })
	go func() { _ = server.Serve(listener) }() // until it is closed
	go d.read(ctx, in)
	for {
		select {
		case <-ctx.Done():
			d.say("stopping")
			return nil
		case f := <-d.strikes:
			d.strike(ctx, f)
		}
	}
}

func (d *demonstration) introduce() {
	d.mu.Lock()
	defer d.mu.Unlock()
	var text strings.Builder
	text.WriteString("\nThe nodes:\n")
	for _, n := range d.cluster.Nodes() {
		fmt.Fprintf(&text, "  %s  psql '%s'\n", n, n.DSN())
	}
	fmt.Fprintf(&text, "\nRun the orders example on all of them, in another terminal:\n  HOSTS=%s \\\n  DATABASE_URL='%s' \\\n  go run ./examples/orders\n",
		strings.Join(d.cluster.Hosts(), ","), d.cluster.DSN())
	text.WriteString("\nLet something happen to the primary, with one of these and Enter; Enter alone, and make cluster-kill, are 3:\n")
	for i, f := range patronitest.Faults() {
		fmt.Fprintf(&text, "  %d  %s\n", i+1, f.Name)
	}
	text.WriteString("Ctrl-C ends and removes everything.\n\n")
	_, _ = io.WriteString(d.out, text.String()) // nobody to tell
}

func (d *demonstration) say(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _ = fmt.Fprintf(d.out, time.Now().Format("15:04:05.0 ")+format+"\n", args...) // nobody to tell
}

// killing is the fault that most people have in mind.
func killing() patronitest.Fault { return patronitest.Faults()[2] }

func (d *demonstration) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /kill", func(w http.ResponseWriter, r *http.Request) {
		select {
		case d.strikes <- killing():
			_, _ = io.WriteString(w, "killed; the other terminal shows what follows\n")
		case <-time.After(time.Second):
			http.Error(w, "another fault is not over yet", http.StatusConflict)
		case <-r.Context().Done():
		}
	})
	return mux
}

// read takes orders until in ends.
func (d *demonstration) read(ctx context.Context, in io.Reader) {
	faults := patronitest.Faults()
	for lines := bufio.NewScanner(in); lines.Scan(); {
		f, order := killing(), strings.TrimSpace(lines.Text())
		if order != "" {
			i, err := strconv.Atoi(order)
			if err != nil || i < 1 || i > len(faults) {
				d.say("a number from 1 to %d, please", len(faults))
				continue
			}
			f = faults[i-1]
		}
		select {
		case d.strikes <- f:
		case <-ctx.Done():
			return
		}
	}
}

func (d *demonstration) strike(ctx context.Context, f patronitest.Fault) {
	if leader, err := d.cluster.Leader(ctx); err == nil {
		d.say("%s of %s", f.Name, leader)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	outage, err := d.cluster.Strike(ctx, f)
	if err != nil {
		d.say("%v", err)
		return
	}
	d.say("%v", outage)
}

// watch tells of changes until ctx is done.
func (d *demonstration) watch(ctx context.Context) {
	shown := ""
	for {
		if status, err := d.cluster.Status(ctx); err == nil {
			if now := d.describe(status); now != shown {
				d.say("%s", now)
				shown = now
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (d *demonstration) describe(s patronitest.Status) string {
	members := map[string]patronitest.Member{}
	for _, m := range s.Members {
		members[m.Name] = m
	}
	var parts []string
	for _, n := range d.cluster.Nodes() {
		m, heard := members[n.Name()]
		part := m.Role
		switch {
		case !heard:
			part = "gone"
		case m.State != "running":
			part += " " + m.State
		case n.Name() == s.Leader:
			part = "PRIMARY"
		case n.Name() == s.Sync:
			part = "synchronous replica"
		}
		parts = append(parts, n.Name()+" "+part)
	}
	return strings.Join(parts, ", ")
}
