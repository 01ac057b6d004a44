package dbscopevet

import (
	"go/ast"
	"go/types"
	"strings"
)

// reach is what a call does with the context it is given.
type reach uint8

const (
	// statement: the context goes to a statement of some database library, which may run
	// in the scope of the context.
	statement reach = 1 << iota
	// scoped: the context needs a scope; without one the call is ErrNoScope.
	scoped
	// joins: the context's scope is used if it has one, as Join does.
	joins
)

// reaches is the fact that a function gives its context to a database.
type reaches struct{ Reach reach }

func (*reaches) AFact()           {}
func (r *reaches) String() string { return "reaches" }

// unscoped is the fact that a variable is a DB opened with AllowUnscoped.
type unscoped struct{}

func (*unscoped) AFact()         {}
func (*unscoped) String() string { return "unscoped" }

// The methods of the DBs whose context needs a scope. Of them opens take a connection.
var (
	opens = map[string][]string{
		sqlPath:  {"DB.ExecContext", "DB.QueryContext", "DB.QueryRowContext", "DB.Raw"},
		pgxPath:  {"DB.Exec", "DB.Query", "DB.QueryRow", "DB.SendBatch", "DB.CopyFrom", "DB.ExecCommit"},
		corePath: {"DB.Atomic"},
	}
	asks = map[string][]string{
		sqlPath: {"DB.PrepareContext"},
		corePath: {
			"DB.Session", "DB.Commit", "DB.Rollback", "DB.Release", "DB.BeforeCommit", "DB.AfterCommit",
			"DB.AfterRollback", "BeforeCommit", "AfterCommit", "AfterRollback", "MarkRollback",
		},
	}
	ends = []string{"DB.Commit", "DB.Rollback", "DB.Release", "Scope.Commit", "Scope.Rollback", "Scope.End"}
	// transactional of a DB never run without a scope, whatever its options are.
	transactional = append([]string{
		"DB.Session", "DB.Atomic", "DB.BeforeCommit", "DB.AfterCommit", "DB.AfterRollback", "BeforeCommit",
		"AfterCommit", "AfterRollback", "MarkRollback",
	}, ends[:3]...)
)

// of returns what the call does with its first context.
func (s *scopes) of(call *ast.CallExpr) reach {
	c := calleeOf(s.info, call)
	switch {
	case c.fn == nil:
		return 0
	case c.is(corePath, "Join"):
		return joins
	case c.is(c.pkg, opens[c.pkg]...), c.is(c.pkg, asks[c.pkg]...):
		if s.allowsUnscoped(receiver(call)) && !c.is(corePath, transactional...) {
			return statement
		}
		return scoped
	case strings.HasPrefix(c.pkg+"/", corePath+"/") && !s.own(c.fn):
		return 0 // what they do with a context is in the lists above
	case isStatement(c, s.info.TypeOf(receiver(call))):
		if s.isOver(s.info.TypeOf(receiver(call))) {
			return scoped
		}
		return statement
	case c.abstract():
		return s.implementers(c.fn)
	}
	return s.known[c.fn]
}

// asksFirst reports whether the function looks for a scope itself, and so goes on without one.
func (s *scopes) asksFirst(fn ast.Node) (found bool) {
	ast.Inspect(fn, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			obj := s.info.Uses[id]
			found = found || obj != nil && obj.Pkg() != nil && obj.Pkg().Path() == corePath &&
				(obj.Name() == "FromContext" || obj.Name() == "ErrNoScope")
		}
		return !found
	})
	return found
}

// own reports whether the function is of the package that is looked at, or of its module.
func (s *scopes) own(fn *types.Func) bool {
	return s.module != "" && inModule(fn.Pkg().Path(), s.module)
}

// implementers returns what the methods of the types that implement the interface do, as far
// as they are in packages that this one imports, or in itself.
func (s *scopes) implementers(method *types.Func) (r reach) {
	iface, ok := method.Signature().Recv().Type().Underlying().(*types.Interface)
	if !ok {
		return 0
	}
	for pkg := range s.users {
		for _, name := range pkg.Scope().Names() {
			obj, ok := pkg.Scope().Lookup(name).(*types.TypeName)
			if !ok || obj.IsAlias() || types.IsInterface(obj.Type()) {
				continue
			}
			t := types.NewPointer(obj.Type())
			if !types.Implements(t, iface) {
				continue
			}
			if fn, _, _ := types.LookupFieldOrMethod(t, false, method.Pkg(), method.Name()); fn != nil {
				if fn, ok := fn.(*types.Func); ok && !types.IsInterface(fn.Signature().Recv().Type()) {
					r |= s.known[fn.Origin()]
				}
			}
		}
	}
	return r
}

// over is the fact that an interface of what sends statements, as the DBTX of sqlc, stands for
// a DB of dbscope.
type over struct{}

func (*over) AFact()         {}
func (*over) String() string { return "over a DB" }

// noteOver notes which interfaces a DB, or a pool, is given as.
func (s *scopes) noteOver(to types.Type, from ast.Expr) {
	named, _ := types.Unalias(to).(*types.Named)
	if named == nil || named.Obj().Pkg() != s.pass.Pkg || !sends(named) {
		return
	}
	switch t := s.info.TypeOf(from); {
	case isNamed(t, pgxPath, "DB") || isNamed(t, sqlPath, "DB"):
		if !s.allowsUnscoped(from) {
			s.over[named.Obj()] = true
		}
	case isNamed(t, pgxpoolPath, "Pool") || isNamed(t, "database/sql", "DB"):
		s.pooled[named.Obj()] = true
	}
}

// isOver reports whether the interface always stands for a DB, as far as can be seen.
func (s *scopes) isOver(recv types.Type) bool {
	named := namedOf(recv)
	return named != nil && s.over[named.Obj()] && !s.pooled[named.Obj()]
}

// isStatement reports whether the call has the name and the shape of a statement of a database
// library, and is one of an interface, as that which sqlc generates, or of the library itself.
func isStatement(c callee, recv types.Type) bool {
	if recv == nil {
		return false
	}
	if c.pkg == "gorm.io/gorm" {
		return c.name == "DB.WithContext"
	}
	if !c.abstract() && c.pkg != "database/sql" && !strings.HasPrefix(c.pkg, "github.com/jackc/pgx/v5") {
		return false
	}
	params := c.fn.Signature().Params()
	switch c.fn.Name() {
	case "Exec", "ExecContext", "Query", "QueryContext", "QueryRow", "QueryRowContext":
		return params.Len() > 0 && isContext(params.At(0).Type()) &&
			(c.name == "Stmt."+c.fn.Name() || params.Len() > 1 && types.Identical(params.At(1).Type(), types.Typ[types.String]))
	case "SendBatch", "CopyFrom", "BeginTx":
		return params.Len() > 1 && isContext(params.At(0).Type())
	case "Begin":
		return params.Len() == 1 && isContext(params.At(0).Type())
	}
	return false
}

// allowsUnscoped reports whether the expression names a DB that is opened with AllowUnscoped
// where that can be seen.
func (s *scopes) allowsUnscoped(db ast.Expr) bool {
	if db == nil {
		return false
	}
	if call, ok := ast.Unparen(db).(*ast.CallExpr); ok { // outside.SQL(), outside.Sibling("b")
		return s.allowsUnscoped(receiver(call))
	}
	return s.open[variable(s.info, db)]
}

// hasOption reports whether one of the arguments is a call of the core's function.
func hasOption(info *types.Info, args []ast.Expr, name string) bool {
	for _, arg := range args {
		if call, ok := ast.Unparen(arg).(*ast.CallExpr); ok && calleeOf(info, call).is(corePath, name) {
			return true
		}
	}
	return false
}

func inModule(pkg, module string) bool { return pkg == module || strings.HasPrefix(pkg, module+"/") }
