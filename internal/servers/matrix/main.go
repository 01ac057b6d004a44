// Matrix runs the suites on every version of every server that it can have, and prints
// what passed:
//
//	go run ./internal/servers/matrix [-only NAME] [-short] [-list]
//
// The system's own servers are those that make setup has installed. Others are unpacked by
// scripts/fetch-server, and nothing of them is installed.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func main() {
	only := flag.String("only", "", "run the servers alone whose name contains this")
	short := flag.Bool("short", false, "run a small part of each suite")
	list := flag.Bool("list", false, "print what would run")
	flag.Parse()
	if err := run(*only, *short, *list); err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
}

// logs is where the output of the suites goes.
const logs = ".servers"

func run(only string, short, list bool) error {
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return err
	}
	var table strings.Builder
	table.WriteString("| server | version | suite | result | seconds |\n|---|---|---|---|---|\n")
	failed := 0
	for _, s := range servers {
		if !strings.Contains(s.name, only) {
			continue
		}
		if list {
			fmt.Println(s.name, s.suites())
			continue
		}
		environment, version, err := s.ready()
		if err != nil {
			failed++
			fmt.Fprintf(&table, "| %s | not to be had: %v | | | |\n", s.name, err)
			continue
		}
		for _, suite := range s.suites() {
			began := time.Now()
			result := "passed"
			if err := suite.run(s.name, environment, short); err != nil {
				failed++
				result = "**failed**: " + err.Error()
			}
			fmt.Fprintf(&table, "| %s | %s | %s | %s | %.0f |\n", s.name, version, suite.name, result, time.Since(began).Seconds())
			fmt.Fprintln(os.Stderr, s.name, version, suite.name, result)
		}
	}
	if list {
		return nil
	}
	fmt.Print(table.String())
	if failed > 0 {
		return fmt.Errorf("%d failed: their output is in %s", failed, logs)
	}
	return nil
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
	return append(environment, "DBSCOPE_ALL_SERVERS=1"), number.FindString(string(out)), nil
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

// run runs the suite's tests. Its output is kept in a file.
func (s suite) run(server string, environment []string, short bool) error {
	file, err := os.Create(filepath.Join(logs, strings.ReplaceAll(server+" "+s.name, " ", "-")+".log"))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // what is in it is for people
	pattern := s.pattern
	if short {
		pattern = s.short
	}
	cmd := exec.Command("go", append([]string{"test", "-count=1", "-timeout=30m", "-run", pattern}, s.packages...)...)
	cmd.Env = append(os.Environ(), environment...)
	cmd.Stdout, cmd.Stderr = file, file
	return cmd.Run()
}
