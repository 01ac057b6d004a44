// Package readme holds the snippets of the README and of docs, so that they
// compile: snippets.go has those of the README, the other files those of the pages
// they are named after. Those of docs/moving are in packages of their own, since
// what is shown before a move and after it has the same names.
package readme

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Pages that have nothing to compile.
var prose = []string{"comparison.md", "design.md", "performance.md", "README.md", "reliability.md", "why.md"}

func TestEverySnippetOfTheDocumentationIsCompiled(t *testing.T) {
	var source strings.Builder
	// Snippets that need a library are where the libraries are.
	for _, file := range append(filesIn(t, ".", ".go"), filesIn(t, "../libraries/snippets", ".go")...) {
		source.WriteString(read(t, file))
	}
	for _, file := range filesIn(t, "../../vet/dbscopevet/testdata/page", ".go") { // those of vet.md, with what is found
		source.WriteString(regexp.MustCompile("(?m) // want .*$").ReplaceAllString(read(t, file), ""))
	}
	for _, page := range append(filesIn(t, "../../docs", ".md"), "../../README.md") {
		snippets := strings.Split(read(t, page), "```go\n")[1:]
		if len(snippets) == 0 && !slices.Contains(prose, filepath.Base(page)) {
			t.Errorf("%s has no snippets", page)
		}
		for _, s := range snippets {
			code, _, _ := strings.Cut(s, "```")
			if err := parse(code); err != nil {
				t.Errorf("%s has a snippet that is not whole: %v\n%s", page, err, code)
			}
			if !strings.Contains(source.String(), code) {
				t.Errorf("no file here has this snippet of %s:\n%s", page, code)
			}
		}
	}
}

// parse checks that code is a Go file, or all of one behind its imports.
func parse(code string) error {
	if !strings.Contains("\n"+code, "\npackage ") {
		code = "package page\n" + code
	}
	_, err := parser.ParseFile(token.NewFileSet(), "", code, parser.SkipObjectResolution)
	return err
}

func TestEachRowOfTheComparisonHasATestThatNamesIt(t *testing.T) {
	row := regexp.MustCompile(`(?m)^\| (R\d+) \|`)
	label := regexp.MustCompile(`\bR\d+\b`)
	rows := map[string]bool{}
	for _, match := range row.FindAllStringSubmatch(read(t, "../../docs/comparison.md"), -1) {
		rows[match[1]] = false
	}
	if len(rows) != 19 {
		t.Errorf("the comparison has %d rows", len(rows))
	}
	for _, file := range filesIn(t, "../..", ".go") {
		if !strings.HasSuffix(file, "_test.go") && filepath.Base(file) != "suite.go" {
			continue
		}
		for _, name := range label.FindAllString(read(t, file), -1) {
			if _, known := rows[name]; !known {
				t.Errorf("%s names %s, which is no row of the comparison", file, name)
			}
			rows[name] = true
		}
	}
	for name, tested := range rows {
		if !tested {
			t.Errorf("no test names %s", name)
		}
	}
}

// filesIn returns the files in the folder, and in those below it, whose names have
// the ending.
func filesIn(t *testing.T, folder, ending string) (files []string) {
	err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ending) {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("files of %s: %v, %v", folder, files, err)
	}
	return files
}

func read(t *testing.T, file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
