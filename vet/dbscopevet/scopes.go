package dbscopevet

import (
	"go/ast"
	"go/types"
	"reflect"

	"golang.org/x/tools/go/analysis"
)

// scopesAnalyzer finds out what the rules share, and keeps what it finds of functions and
// variables as facts for the packages that import this one.
var scopesAnalyzer = &analysis.Analyzer{
	Name:       "dbscopefacts",
	Doc:        "find the units of work, and which functions give their context to a database",
	URL:        page,
	Run:        func(pass *analysis.Pass) (any, error) { return newScopes(pass), nil },
	ResultType: reflect.TypeFor[*scopes](),
	FactTypes:  []analysis.Fact{new(reaches), new(unscoped), new(over), new(slow)},
}

// scopes is what the rules know of a package.
type scopes struct {
	*origins
	pass    *analysis.Pass
	module  string                        // its path, empty where it is not known
	open    map[types.Object]bool         // the variables with AllowUnscoped
	strict  map[types.Object]bool         // the variables that are opened without it
	handles map[types.Object][]ast.Expr   // what is assigned to variables that are a *sql.DB
	reach   map[*ast.CallExpr]reach       // what calls do
	known   map[*types.Func]reach         // what functions do, of this package and of those it imports
	users   map[*types.Package]bool       // the packages whose functions may reach a database
	over    map[*types.TypeName]bool      // the interfaces that a DB is given as
	pooled  map[*types.TypeName]bool      // and those that a pool is given as
	params  map[types.Object]bool         // the contexts that functions of units get
	used    map[types.Object]bool         // the contexts that statements with a scope got
	units   map[*ast.FuncLit]types.Object // the functions of units, with their context if they name it
	slowly  map[*types.Func]slow          // the functions that do something slow
	ignored map[line]bool
}

func newScopes(pass *analysis.Pass) *scopes {
	s := &scopes{
		origins: newOrigins(pass.TypesInfo, pass.Files),
		pass:    pass,
		open:    map[types.Object]bool{},
		strict:  map[types.Object]bool{},
		handles: map[types.Object][]ast.Expr{},
		reach:   map[*ast.CallExpr]reach{},
		known:   map[*types.Func]reach{},
		users:   map[*types.Package]bool{pass.Pkg: true},
		over:    map[*types.TypeName]bool{},
		pooled:  map[*types.TypeName]bool{},
		params:  map[types.Object]bool{},
		used:    map[types.Object]bool{},
		units:   map[*ast.FuncLit]types.Object{},
		slowly:  map[*types.Func]slow{},
		ignored: ignoredLines(pass),
	}
	if pass.Module != nil {
		s.module = pass.Module.Path
	}
	for _, file := range pass.Files {
		ast.Inspect(file, s.collect)
	}
	s.importFacts()
	s.findReach()
	s.findSlow()
	s.exportFacts()
	return s
}

func (s *scopes) importFacts() {
	for _, fact := range s.pass.AllObjectFacts() {
		fn, _ := fact.Object.(*types.Func)
		switch f := fact.Fact.(type) {
		case *unscoped:
			s.open[fact.Object] = true
		case *reaches:
			s.known[fn] = f.Reach
			if f.Reach != statement {
				s.users[fn.Pkg()] = true
			}
		case *over:
			s.over[fact.Object.(*types.TypeName)] = true
		case *slow:
			s.slowly[fn] = *f
		}
	}
}

func (s *scopes) exportFacts() {
	for v := range s.open {
		if v.Pkg() == s.pass.Pkg {
			s.pass.ExportObjectFact(v, new(unscoped))
		}
	}
	for name := range s.over {
		if name.Pkg() == s.pass.Pkg && !s.pooled[name] {
			s.pass.ExportObjectFact(name, new(over))
		}
	}
	for fn, r := range s.known {
		if fn.Pkg() == s.pass.Pkg {
			s.pass.ExportObjectFact(fn, &reaches{r})
		}
	}
	for fn, what := range s.slowly {
		if fn.Pkg() == s.pass.Pkg {
			s.pass.ExportObjectFact(fn, &what)
		}
	}
}

// collect notes the functions of units, and where databases come from.
func (s *scopes) collect(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.AssignStmt:
		for i, to := range n.Lhs {
			s.noteDatabase(to, n.Rhs[min(i, len(n.Rhs)-1)])
		}
	case *ast.ValueSpec:
		for i, to := range n.Names {
			if len(n.Values) > 0 {
				s.noteDatabase(to, n.Values[min(i, len(n.Values)-1)])
			}
		}
	case *ast.KeyValueExpr:
		s.noteDatabase(n.Key, n.Value)
	case *ast.CallExpr:
		if fn := unitFunc(s.info, n); fn != nil {
			s.noteUnit(fn)
		}
		if sig, ok := types.Unalias(s.info.TypeOf(n.Fun)).(*types.Signature); ok {
			for i := range min(sig.Params().Len(), len(n.Args)) {
				s.noteOver(sig.Params().At(i).Type(), n.Args[i])
			}
		}
	}
	return true
}

// noteDatabase notes what a variable or field is given, where that is a database.
func (s *scopes) noteDatabase(to, from ast.Expr) {
	v := variable(s.info, to)
	if v == nil {
		return
	}
	s.noteOver(v.Type(), from)
	if isNamed(v.Type(), "database/sql", "DB") {
		s.handles[v] = append(s.handles[v], from)
	}
	call, ok := ast.Unparen(from).(*ast.CallExpr)
	if !ok {
		return
	}
	switch c := calleeOf(s.info, call); {
	case hasOption(s.info, call.Args, "AllowUnscoped"):
		s.open[v] = true
	case (c.is(sqlPath, "Open", "New") || c.is(pgxPath, "Open", "New")) && allCalls(s.info, call):
		s.strict[v] = true
	}
}

// allCalls reports whether the options of a DB can all be seen.
func allCalls(info *types.Info, open *ast.CallExpr) bool {
	for _, arg := range open.Args {
		if isNamed(info.TypeOf(arg), corePath, "DBOption") || isNamed(info.TypeOf(arg), corePath, "SharedOption") {
			if _, ok := ast.Unparen(arg).(*ast.CallExpr); !ok {
				return false
			}
		}
	}
	return open.Ellipsis == 0
}

// noteUnit notes what is run as a unit: a literal, or a function of this package.
func (s *scopes) noteUnit(fn ast.Expr) {
	if lit, ok := fn.(*ast.FuncLit); ok {
		param := contextParam(s.info, lit.Type)
		s.units[lit] = param
		if param != nil {
			s.params[param] = true
		}
		return
	}
	var id *ast.Ident
	switch fn := fn.(type) {
	case *ast.Ident:
		id = fn
	case *ast.SelectorExpr:
		id = fn.Sel
	default:
		return
	}
	if f, ok := s.info.Uses[id].(*types.Func); ok && f.Pkg() == s.pass.Pkg {
		if params := f.Origin().Signature().Params(); params.Len() > 0 && isContext(params.At(0).Type()) {
			s.params[params.At(0)] = true
		}
	}
}

// contextParam returns the first parameter that is a context, if it has a name.
func contextParam(info *types.Info, fn *ast.FuncType) types.Object {
	for _, field := range fn.Params.List {
		if isContext(info.TypeOf(field.Type)) {
			for _, name := range field.Names {
				if name.Name != "_" {
					return info.Defs[name]
				}
			}
			return nil
		}
	}
	return nil
}

// use is a call that is given a context.
type use struct {
	call   *ast.CallExpr
	origin types.Object
	in     *types.Func // whose parameter the context comes from, if it does
	asked  bool        // the function around has looked whether there is a scope
}

// reach returns what the call does. Where a scope was looked for it needs none, but uses it.
func (u use) reach(r reach) reach {
	if u.asked && r&scoped != 0 {
		return r&^scoped | joins
	}
	return r
}

// findReach finds which functions of the package give their context to a database. They call
// each other, so it goes on until nothing new is found.
func (s *scopes) findReach() {
	uses := s.uses()
	for again := true; again; {
		again = false
		for _, u := range uses {
			s.reach[u.call] = u.reach(s.of(u.call))
			if r := s.reach[u.call]; u.in != nil && r&^s.known[u.in] != 0 {
				s.known[u.in] |= r
				again = true
			}
		}
	}
	for _, u := range uses {
		if s.reach[u.call]&scoped != 0 && u.origin != nil {
			s.used[u.origin] = true
		}
	}
}

func (s *scopes) uses() (all []use) {
	for _, file := range s.pass.Files {
		for _, decl := range file.Decls {
			var param types.Object
			var obj *types.Func
			asked := s.asksFirst(decl)
			if fn, ok := decl.(*ast.FuncDecl); ok {
				param = contextParam(s.info, fn.Type)
				obj, _ = s.info.Defs[fn.Name].(*types.Func)
			}
			ast.Inspect(decl, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if ctx := contextArg(s.info, call); ctx != nil {
					u := use{call: call, origin: s.origins.of(ctx), asked: asked}
					if param != nil && u.origin == param {
						u.in = obj
					}
					all = append(all, u)
				}
				return true
			})
		}
	}
	return all
}

// unit reports whether the context is one of a unit, as far as that can be seen: its function
// got it, or a statement that needs a scope did.
func (s *scopes) unit(origin types.Object) bool {
	return origin != nil && origin != background && (s.params[origin] || s.used[origin])
}
