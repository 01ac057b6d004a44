// Matrix runs the suites on every version of every server that it can have, and prints
// what passed:
//
//	go run ./internal/servers/matrix [-only NAME] [-suite NAME] [-short] [-list]
//
// The system's own servers are those that make setup has installed. Others are unpacked by
// scripts/fetch-server, and nothing of them is installed.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	only := flag.String("only", "", "run the servers alone whose name contains this")
	suite := flag.String("suite", "", "run the suites alone whose name contains this")
	short := flag.Bool("short", false, "run a small part of each suite")
	list := flag.Bool("list", false, "print what would run")
	flag.Parse()
	if err := run(os.Stdout, choice{*only, *suite, *short}, *list); err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
}

// logs is where the output of the suites goes.
const logs = ".servers"

// choice is what is run.
type choice struct {
	server, suite string // parts of names
	short         bool   // a small part of each suite
}

func (c choice) servers() []server {
	return slices.DeleteFunc(slices.Clone(servers), func(s server) bool { return !strings.Contains(s.name, c.server) || len(c.suites(s)) == 0 })
}

func (c choice) suites(s server) []suite {
	return slices.DeleteFunc(s.suites(), func(s suite) bool { return !strings.Contains(s.name, c.suite) })
}

func run(out io.Writer, choice choice, list bool) error {
	chosen := choice.servers()
	if len(chosen) == 0 {
		return fmt.Errorf("no server's name contains %q, with a suite whose name contains %q: -list prints them", choice.server, choice.suite)
	}
	if list {
		for _, s := range chosen {
			_, _ = fmt.Fprintln(out, s.name, choice.suites(s))
		}
		return nil
	}
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return err
	}
	part := "Whole"
	if choice.short {
		part = "A small part"
	}
	_, _ = fmt.Fprintf(out, "%s, on %s.\n\n", part, time.Now().Format("2 January 2006"))
	_, _ = fmt.Fprint(out, "| server | version | suite | result | passed | skipped | seconds |\n|---|---|---|---|---|---|---|\n")
	failed := 0
	for _, s := range chosen {
		failed += s.print(out, choice)
	}
	if failed > 0 {
		return fmt.Errorf("%d failed: their output is in %s", failed, logs)
	}
	return nil
}

// print runs the server's suites that are chosen, prints a row for each as it is done, and counts those
// that failed.
func (s server) print(out io.Writer, choice choice) (failed int) {
	environment, version, err := s.ready()
	if err != nil {
		_, _ = fmt.Fprintf(out, "| %s | not to be had: %v | | | | | |\n", s.name, err)
		return 1
	}
	for _, suite := range choice.suites(s) {
		began := time.Now()
		result := "passed"
		count, err := suite.run(s.name, environment, choice.short)
		if err != nil {
			failed++
			result = "**failed**: " + err.Error()
		}
		_, _ = fmt.Fprintf(out, "| %s | %s | %s | %s | %d | %d | %.0f |\n", s.name, version, suite.name, result, count.passed, count.skipped, time.Since(began).Seconds())
	}
	return failed
}

// ready fetches the server where that is needed, and returns the variables by which the
// tests find it, and its version.
func (s server) ready() (environment []string, version string, err error) {
	program, err := s.program, error(nil)
	if s.find != nil {
		program, err = s.find()
	}
	if err != nil {
		return nil, "", err
	}
	if len(s.fetch) > 0 {
		dir, err := s.fetched()
		if err != nil {
			return nil, "", err
		}
		program = filepath.Join(dir, s.program)
		value := program
		if s.folder {
			value = filepath.Dir(program)
		}
		environment = []string{s.variable + "=" + value}
	}
	out, err := exec.Command(program, "--version").CombinedOutput()
	if err != nil {
		return nil, "", fmt.Errorf("%s --version: %w", program, err)
	}
	// It may print its path, which may have a number too.
	version = number.FindString(strings.ReplaceAll(string(out), program, ""))
	return append(environment, "DBSCOPE_ALL_SERVERS=1"), version, nil
}

var number = regexp.MustCompile(`\d+(\.\d+)+`)

// fetched returns the folder where the server is unpacked.
func (s server) fetched() (string, error) {
	cmd := exec.Command("scripts/fetch-server", s.fetch...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("scripts/fetch-server %s: %w", strings.Join(s.fetch, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// run runs the suite's tests. Their output is in a file as it comes.
func (s suite) run(server string, environment []string, short bool) (count, error) {
	file, err := os.Create(filepath.Join(logs, strings.ReplaceAll(server+" "+s.name, " ", "-")+".log"))
	if err != nil {
		return count{}, err
	}
	defer func() { _ = file.Close() }() // it is for people
	pattern := s.pattern
	if short {
		pattern = s.short
	}
	cmd := exec.Command("go", append([]string{"test", "-v", "-count=1", "-timeout=60m", "-run", pattern}, s.packages...)...)
	cmd.Env = append(os.Environ(), environment...)
	var output bytes.Buffer
	cmd.Stdout = io.MultiWriter(file, &output)
	cmd.Stderr = cmd.Stdout
	err = cmd.Run()
	c := counted(output.Bytes())
	switch {
	case len(c.failed) > 0:
		return c, errors.New(strings.Join(c.failed, ", "))
	case err != nil:
		return c, err
	case c.passed == 0:
		return c, errors.New("no test ran")
	}
	return c, nil
}

// count is of tests and subtests. Those that failed are named, but for subtests.
type count struct {
	passed, skipped int
	failed          []string
}

var ended = regexp.MustCompile(`(?m)^( *)--- (PASS|SKIP|FAIL): (\S+)`)

// counted reads what go test -v has printed.
func counted(output []byte) (c count) {
	for _, match := range ended.FindAllSubmatch(output, -1) {
		switch string(match[2]) {
		case "PASS":
			c.passed++
		case "SKIP":
			c.skipped++
		case "FAIL":
			if len(match[1]) == 0 {
				c.failed = append(c.failed, string(match[3]))
			}
		}
	}
	return c
}
