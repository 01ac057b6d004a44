package pgtest

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/dbscope/dbscope/internal/child"
)

// binVariable chooses a PostgreSQL.
const binVariable = "DBSCOPE_PG_BIN"

// findBinaries returns the directory of PostgreSQL's programs.
var findBinaries = sync.OnceValues(find)

// find takes the directory that the environment names, else the one that PATH
// leads to, else the newest of the installed ones that systems keep off PATH.
// What somebody has chosen is used or refused: another one in its place would
// let tests pass for a version that they have not run on.
func find() (string, error) {
	dir, err := child.Folder(binVariable)
	if err != nil {
		return "", fmt.Errorf("pgtest: %w", err)
	}
	if dir != "" {
		if err := complete(dir); err != nil {
			return "", fmt.Errorf("pgtest: %s is of no use to the tests: %w", binVariable, err)
		}
		return dir, nil
	}
	if dir, err := onPath(); dir != "" || err != nil {
		return dir, err
	}
	for _, dir := range installed() {
		if complete(dir) == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("pgtest: %w", &child.MissingError{Name: "PostgreSQL", Key: "postgresql", Variable: binVariable})
}

// onPath returns nothing where PATH leads to no server. A psql alone is no
// choice: Debian has one for all versions.
func onPath() (string, error) {
	for _, name := range []string{"initdb", "postgres"} {
		path, err := exec.LookPath(name)
		if err == nil {
			path, err = filepath.Abs(path)
		}
		if err != nil {
			continue
		}
		dir := filepath.Dir(path)
		refused := complete(dir)
		// Behind a link are programs of one version. Folders of links may hold several.
		if target, err := filepath.EvalSymlinks(path); err == nil && complete(filepath.Dir(target)) == nil {
			return filepath.Dir(target), nil
		}
		if refused == nil {
			return dir, nil
		}
		return "", fmt.Errorf("pgtest: the PostgreSQL on PATH is of no use to the tests: %w; complete it, or name another folder in %s", refused, binVariable)
	}
	return "", nil
}

// installed lists where Debian, Homebrew and PostgreSQL's own packages for
// Fedora put it, the newest version first, and what pg_config says.
func installed() []string {
	var dirs []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin", "/usr/pgsql-*/bin",
	} {
		found, _ := filepath.Glob(pattern) // the pattern is valid
		dirs = append(dirs, found...)
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return majorVersion(b) - majorVersion(a) })
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	return dirs
}

// complete names the program that the tests need and the directory lacks.
func complete(dir string) error { return Needs(dir, "initdb", "postgres", "psql") }

// Needs names the first of the programs that a directory lacks.
func Needs(dir string, programs ...string) error {
	for _, name := range programs {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return errors.New(dir + " has no " + name)
		}
	}
	return nil
}

// majorVersion reads it from the name above bin, such as 15 or postgresql@15.
func majorVersion(bin string) int {
	name := filepath.Base(filepath.Dir(bin))
	version, _ := strconv.Atoi(name[strings.LastIndexAny(name, "@-")+1:]) // 0 sorts last
	return version
}
