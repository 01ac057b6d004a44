// Package readme holds the snippets of the README, so that they compile.
package readme

import (
	"os"
	"strings"
	"testing"
)

func TestEverySnippetOfTheREADMEIsCompiled(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("snippets.go")
	if err != nil {
		t.Fatal(err)
	}
	snippets := strings.Split(string(readme), "```go\n")[1:]
	if len(snippets) == 0 {
		t.Fatal("the README has no snippets")
	}
	for _, s := range snippets {
		code, _, _ := strings.Cut(s, "```")
		if !strings.Contains(string(source), code) {
			t.Errorf("snippets.go does not have this one:\n%s", code)
		}
	}
}
