package dbscopevet

import (
	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/ctrlflow"
)

// All applies all rules at once: the tests load their programs, and what these import, only
// once, and see that no rule finds anything in what another is shown.
var All = &analysis.Analyzer{
	Name: "all",
	Doc:  "apply all rules",
	Run: func(pass *analysis.Pass) (any, error) {
		for _, rule := range rules {
			if _, err := rule.Run(pass); err != nil {
				return nil, err
			}
		}
		return nil, nil
	},
	Requires: []*analysis.Analyzer{scopesAnalyzer, ctrlflow.Analyzer},
}
