package dbscopevet_test

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/analysistest"

	"github.com/dbscope/dbscope/vet/dbscopevet"
)

// TestMain fetches what the programs in testdata, a module of their own, are made of: the
// tests load them without a network.
func TestMain(m *testing.M) {
	fetch := exec.Command("go", "mod", "download")
	fetch.Dir, fetch.Stderr = "testdata", os.Stderr
	fetch.Env = append(os.Environ(), "GOWORK=off")
	if err := fetch.Run(); err != nil {
		panic("go mod download in testdata: " + err.Error())
	}
	os.Exit(m.Run())
}

// What the rules find, and what they leave alone, is in the comments of testdata; what their
// fixes make of it in the files that end in golden.
func TestTheRulesFindWhatTheySayAndNothingElse(t *testing.T) {
	analysistest.RunWithSuggestedFixes(t, analysistest.TestData(), dbscopevet.All, "shop/...")
}

func TestTheRulesAreValidAnalyzers(t *testing.T) {
	if err := analysis.Validate(dbscopevet.Analyzers()); err != nil {
		t.Error(err)
	}
}
