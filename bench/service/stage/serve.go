package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/dbscope/dbscope/bench/service/subject"
)

// serveVariable makes a process of this program the service.
const serveVariable = "DBSCOPE_BENCH_SERVE"

// addresses are what the service says on its standard output.
type addresses struct{ Requests, Control string }

// usage is what the service has used since it started.
type usage struct {
	CPU           time.Duration
	Allocs, Bytes uint64
}

// ServeIfAsked is the first thing that main calls, of each program that uses
// this package: the service is another process of the same program. It returns
// where this process is not the service.
func ServeIfAsked() {
	asked := os.Getenv(serveVariable)
	if asked == "" {
		return
	}
	if err := serve(asked); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve ends when its standard input does, which is when its parent is gone.
func serve(asked string) error {
	var config subject.Config
	if err := json.Unmarshal([]byte(asked), &config); err != nil {
		return err
	}
	s, err := subject.Open(context.Background(), config)
	if err != nil {
		return err
	}
	requests, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	control, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(requests, s.Handler) }() // ends with the process
	go func() { _ = http.Serve(control, controls()) }()
	err = json.NewEncoder(os.Stdout).Encode(addresses{requests.Addr().String(), control.Addr().String()})
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func controls() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /usage", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, func() error { return json.NewEncoder(w).Encode(used()) })
	})
	mux.HandleFunc("GET /heap", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, func() error { return json.NewEncoder(w).Encode(heap()) })
	})
	var profile *os.File
	mux.HandleFunc("POST /profile", func(w http.ResponseWriter, r *http.Request) {
		reply(w, func() (err error) {
			if profile, err = os.Create(r.FormValue("file")); err != nil {
				return err
			}
			return pprof.StartCPUProfile(profile)
		})
	})
	mux.HandleFunc("DELETE /profile", func(w http.ResponseWriter, r *http.Request) {
		reply(w, func() error {
			pprof.StopCPUProfile()
			return errors.Join(profile.Close(), writeAllocs(r.FormValue("file")))
		})
	})
	return mux
}

// writeAllocs stores the profile of allocations since the start.
func writeAllocs(name string) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(file, 0), file.Close())
}

func reply(w http.ResponseWriter, f func() error) {
	if err := f(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func used() usage {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err) // the arguments are valid
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{time.Duration(r.Utime.Nano() + r.Stime.Nano()), m.Mallocs, m.TotalAlloc}
}
