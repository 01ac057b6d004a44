// Package layers_test keeps the files of the root package in their order.
package layers_test

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// layers are the files of the root package, the lowest first. A file uses what is in
// the files before it, and those of its own line what is in each other.
const layers = `
doc errors
options
observe
route
scope
hookrun
deadlock
slot
again
finish
holding stream
run
join
group
gate
db
hooks atomic adopt
`

func TestFilesKnowOnlyThoseBelowThem(t *testing.T) {
	level := map[string]int{}
	for i, line := range strings.Split(strings.TrimSpace(layers), "\n") {
		for name := range strings.FieldsSeq(line) {
			level[name+".go"] = i
		}
	}
	fset := token.NewFileSet()
	paths, err := filepath.Glob("../../*.go")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		if _, known := level[filepath.Base(p)]; !known {
			t.Errorf("%s has no place among the layers", p)
		}
		f, err := parser.ParseFile(fset, p, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	uses := map[*ast.Ident]types.Object{}
	conf := types.Config{Importer: importer.ForCompiler(fset, "source", nil)}
	pkg, err := conf.Check("github.com/dbscope/dbscope", fset, files, &types.Info{Uses: uses})
	if err != nil {
		t.Fatal(err)
	}
	var up []string
	for id, o := range uses {
		if o.Pkg() != pkg || !ofPackage(o, pkg) {
			continue
		}
		from, to := filepath.Base(fset.Position(id.Pos()).Filename), filepath.Base(fset.Position(o.Pos()).Filename)
		if level[from] < level[to] || level[from] == level[to] && from != to && !strings.Contains("session.go block.go end.go owner.go", from) {
			up = append(up, fmt.Sprintf("%s uses %s, which is in %s", from, o.Name(), to))
		}
	}
	slices.Sort(up)
	for _, arrow := range slices.Compact(up) {
		t.Error(arrow)
	}
}

// ofPackage reports whether the object is the package's, a field or a method, and
// not one of a function's own.
func ofPackage(o types.Object, pkg *types.Package) bool {
	switch o := o.(type) {
	case *types.Func:
		return true
	case *types.Var:
		return o.IsField() || o.Parent() == pkg.Scope()
	}
	return o.Parent() == pkg.Scope()
}
