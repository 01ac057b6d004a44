// Package plugin makes the analyzers of package dbscopevet a linter of golangci-lint, by its
// module plugin system. docs/vet.md has the two files of configuration that it takes.
package plugin

import (
	"fmt"
	"slices"

	"github.com/golangci/plugin-module-register/register"
	"golang.org/x/tools/go/analysis"

	"github.com/dbscope/dbscope/vet/dbscopevet"
)

func init() { register.Plugin("dbscopevet", newLinter) }

// settings are those of the linter in .golangci.yml.
type settings struct {
	Disable []string `json:"disable"` // names of rules, such as scopeslow
}

type linter struct{ settings }

func newLinter(raw any) (register.LinterPlugin, error) {
	s, err := register.DecodeSettings[settings](raw)
	if err != nil {
		return nil, err
	}
	for _, name := range s.Disable {
		if !slices.ContainsFunc(dbscopevet.Analyzers(), func(a *analysis.Analyzer) bool { return a.Name == name }) {
			return nil, fmt.Errorf("dbscopevet: there is no rule %q to disable: docs/vet.md lists them", name)
		}
	}
	return linter{s}, nil
}

// BuildAnalyzers returns the rules that are not disabled.
func (l linter) BuildAnalyzers() ([]*analysis.Analyzer, error) {
	return slices.DeleteFunc(dbscopevet.Analyzers(), func(a *analysis.Analyzer) bool {
		return slices.Contains(l.Disable, a.Name)
	}), nil
}

// GetLoadMode returns that the rules need types.
func (linter) GetLoadMode() string { return register.LoadModeTypesInfo }
