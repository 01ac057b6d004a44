// Servers prints which programs the tests run, with their versions, so that a
// test's outcome can be told to be that of a version:
//
//	go run ./internal/servers
//
// With -missing it prints what is not installed, one key a line, for the script
// of make setup.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"

	"github.com/dbscope/dbscope/internal/browser"
	"github.com/dbscope/dbscope/internal/child"
	"github.com/dbscope/dbscope/internal/mariatest"
	"github.com/dbscope/dbscope/internal/mysqltest"
	"github.com/dbscope/dbscope/internal/patronitest"
	"github.com/dbscope/dbscope/internal/pgbouncer"
	"github.com/dbscope/dbscope/internal/pgpool"
	"github.com/dbscope/dbscope/internal/pgtest"
)

func main() {
	missing := flag.Bool("missing", false, "print only what is not installed")
	flag.Parse()
	if err := run(os.Stdout, *missing); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// program is what the tests need, and how they find it.
type program struct {
	name     string
	find     func() (path string, err error)
	optional bool // tests that need it are skipped where it is missing, see child.AllServers
}

func programs() []program {
	all := []program{
		{name: "PostgreSQL", find: pgtest.Find},
		{name: "PgBouncer", find: pgbouncer.Find},
		{name: "pgpool-II", find: pgpool.Find},
		{name: "MariaDB", find: mariatest.Find},
		{name: "MySQL", find: mysqltest.Find, optional: !child.AllServers()},
		{name: "Chromium", find: browser.Find},
	}
	if runtime.GOOS == "linux" { // where clusters are
		all = append(all, program{name: "Patroni", find: patronitest.FindPatroni}, program{name: "etcd", find: patronitest.FindEtcd})
	}
	return all
}

// run prints to out. What is found and of no use is an error, and so is what is
// missing, unless that is what is asked for.
func run(out io.Writer, onlyMissing bool) error {
	var refused error
	report := func(err error) {
		var missing *child.MissingError
		if onlyMissing && errors.As(err, &missing) {
			_, err = fmt.Fprintln(out, missing.Key)
		}
		refused = errors.Join(refused, err)
	}
	for _, p := range programs() {
		path, err := p.find()
		switch {
		case err != nil && p.optional && !onlyMissing && errors.As(err, new(*child.MissingError)):
			_, err = fmt.Fprintf(out, "%-10s %-8s tests that need it are skipped\n", p.name, "none")
			report(err)
		case err != nil:
			report(err)
		case !onlyMissing:
			v, err := version(path)
			report(err)
			_, err = fmt.Fprintf(out, "%-10s %-8s %s\n", p.name, v, path)
			report(err)
		}
	}
	// PostgreSQL's packages bring their user, MariaDB's smaller ones do not.
	if _, err := pgtest.Find(); err == nil {
		_, err := pgtest.Owner()
		report(err)
	}
	_, err := child.FindOwner("mysql")
	report(err)
	report(compiler())
	if _, err := exec.LookPath("curl"); err != nil { // which pages and examples tell their readers to type
		report(&child.MissingError{Name: "curl", Key: "curl"})
	}
	return refused
}

var number = regexp.MustCompile(`\d+(\.\d+)+`)

// version reads the first number that looks like one.
func version(path string) (string, error) {
	out, err := exec.Command(path, "--version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w\n%s", path, err, out)
	}
	found := number.Find(out)
	if found == nil {
		return "", fmt.Errorf("%s --version tells none: %s", path, out)
	}
	return string(found), nil
}

// compiler is an error where there is no C compiler: the race detector is linked
// with one.
func compiler() error {
	out, err := exec.Command("go", "env", "CC").Output()
	if err != nil {
		return fmt.Errorf("go env CC: %w", err)
	}
	if words := strings.Fields(string(out)); len(words) > 0 {
		if _, err := exec.LookPath(words[0]); err == nil {
			return nil
		}
	}
	return &child.MissingError{Name: "C compiler", Key: "compiler", Variable: "CC"}
}
