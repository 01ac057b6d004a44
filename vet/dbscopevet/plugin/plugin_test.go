package plugin_test

import (
	"slices"
	"testing"

	"github.com/golangci/plugin-module-register/register"
	"golang.org/x/tools/go/analysis"

	_ "github.com/dbscope/dbscope/vet/dbscopevet/plugin"
)

func linter(t *testing.T, settings any) (register.LinterPlugin, error) {
	t.Helper()
	make, err := register.GetPlugin("dbscopevet")
	if err != nil {
		t.Fatal(err)
	}
	return make(settings)
}

func TestTheLinterHasAllRulesButThoseDisabled(t *testing.T) {
	for _, c := range []struct {
		settings any
		has      bool
	}{{nil, true}, {map[string]any{"disable": []string{"scopeslow"}}, false}} {
		l, err := linter(t, c.settings)
		if err != nil {
			t.Fatal(err)
		}
		rules, err := l.BuildAnalyzers()
		if err != nil {
			t.Fatal(err)
		}
		has := slices.ContainsFunc(rules, func(a *analysis.Analyzer) bool { return a.Name == "scopeslow" })
		if has != c.has || len(rules) < 6 {
			t.Errorf("with %v there are %d rules, scopeslow is one of them: %t", c.settings, len(rules), has)
		}
		if l.GetLoadMode() != register.LoadModeTypesInfo {
			t.Errorf("the load mode is %s", l.GetLoadMode())
		}
	}
}

func TestASettingThatThereIsNotIsAnError(t *testing.T) {
	for _, settings := range []map[string]any{{"disabled": []string{"scopeslow"}}, {"disable": []string{"slow"}}} {
		if _, err := linter(t, settings); err == nil {
			t.Errorf("%v is accepted", settings)
		}
	}
}
