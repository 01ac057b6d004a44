package dbscopevet

import (
	"go/ast"
	"go/token"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// page is the documentation of the rules.
const page = "https://github.com/dbscope/dbscope/blob/main/docs/vet.md"

// rule returns an analyzer that knows what scopes does.
func rule(name, doc string, run func(*scopes), requires ...*analysis.Analyzer) *analysis.Analyzer {
	return &analysis.Analyzer{
		Name: name,
		Doc:  doc,
		URL:  page + "#" + name,
		Run: func(pass *analysis.Pass) (any, error) {
			s := *pass.ResultOf[scopesAnalyzer].(*scopes)
			s.pass = pass // reports and results are the rule's own
			if strings.HasPrefix(pass.Pkg.Path()+"/", corePath+"/") && s.module == corePath {
				return nil, nil // the library itself, whose parts are what the rules are about
			}
			run(&s)
			return nil, nil
		},
		Requires: append(requires, scopesAnalyzer),
	}
}

// line is one of a file.
type line struct {
	file string
	n    int
}

const ignoreComment = "//dbscopevet:ignore "

// ignoredLines returns those with a comment that silences the rules, and those below. A comment
// without a reason silences nothing.
func ignoredLines(pass *analysis.Pass) map[line]bool {
	lines := map[line]bool{}
	for _, file := range pass.Files {
		for _, group := range file.Comments {
			for _, c := range group.List {
				if reason, ok := strings.CutPrefix(c.Text, ignoreComment); ok && strings.TrimSpace(reason) != "" {
					at := pass.Fset.Position(c.Pos())
					lines[line{at.Filename, at.Line}] = true
					lines[line{at.Filename, at.Line + 1}] = true
				}
			}
		}
	}
	return lines
}

// report reports what was found at the node, unless a comment silences it.
func (s *scopes) report(at ast.Node, message string, fixes ...analysis.SuggestedFix) {
	pos := s.pass.Fset.Position(at.Pos())
	if s.ignored[line{pos.Filename, pos.Line}] {
		return
	}
	s.pass.Report(analysis.Diagnostic{Pos: at.Pos(), End: at.End(), Message: message, SuggestedFixes: fixes})
}

// replace is a fix that puts a text in the place of what is between two positions.
func replace(message string, from, to token.Pos, text string) analysis.SuggestedFix {
	return analysis.SuggestedFix{
		Message:   message,
		TextEdits: []analysis.TextEdit{{Pos: from, End: to, NewText: []byte(text)}},
	}
}
