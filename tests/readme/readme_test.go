// Package readme holds the snippets of the README and of docs, so that they
// compile: snippets.go those of the README, the other files those of the pages
// they are named after.
package readme

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestEverySnippetOfTheDocumentationIsCompiled(t *testing.T) {
	var source strings.Builder
	for _, file := range match(t, "*.go") {
		if !strings.HasSuffix(file, "_test.go") {
			source.WriteString(read(t, file))
		}
	}
	for _, page := range append(match(t, "../../docs/*.md"), "../../README.md") {
		snippets := strings.Split(read(t, page), "```go\n")[1:]
		if len(snippets) == 0 && !slices.Contains([]string{"design.md", "performance.md", "reliability.md"}, filepath.Base(page)) {
			t.Errorf("%s has no snippets", page)
		}
		for _, s := range snippets {
			code, _, _ := strings.Cut(s, "```")
			if !strings.Contains(source.String(), code) {
				t.Errorf("no file here has this snippet of %s:\n%s", page, code)
			}
		}
	}
}

func match(t *testing.T, pattern string) []string {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s matches %v: %v", pattern, files, err)
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
