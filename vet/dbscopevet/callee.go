package dbscopevet

import (
	"go/ast"
	"go/types"
	"slices"

	"golang.org/x/tools/go/types/typeutil"
)

// The packages whose names the rules know.
const (
	corePath = "github.com/dbscope/dbscope"
	sqlPath  = corePath + "/driver/sqlscope"
	pgxPath  = corePath + "/driver/pgxscope"
	testPath = corePath + "/scopetest"
)

// callee is the function that a call calls, where that is known.
type callee struct {
	fn   *types.Func
	pkg  string // its package's path
	name string // "Run", or with the receiver's type "DB.Atomic"
}

// calleeOf returns the zero callee for calls of function values, conversions and builtins.
func calleeOf(info *types.Info, call *ast.CallExpr) callee {
	fn, ok := typeutil.Callee(info, call).(*types.Func)
	if !ok || fn.Pkg() == nil {
		return callee{}
	}
	fn = fn.Origin()
	c := callee{fn, fn.Pkg().Path(), fn.Name()}
	if recv := fn.Signature().Recv(); recv != nil {
		if named := namedOf(recv.Type()); named != nil {
			c.name = named.Obj().Name() + "." + c.name
		}
	}
	return c
}

// is reports whether it is one of the functions of a package.
func (c callee) is(pkg string, names ...string) bool {
	if c.pkg != pkg {
		return false
	}
	return slices.Contains(names, c.name)
}

// abstract reports whether it is a method of an interface.
func (c callee) abstract() bool {
	recv := c.fn.Signature().Recv()
	return recv != nil && types.IsInterface(recv.Type())
}

// namedOf returns the named type of T, or of what the pointer T points to, or nil.
func namedOf(t types.Type) *types.Named {
	if p, ok := types.Unalias(t).(*types.Pointer); ok {
		t = p.Elem()
	}
	named, _ := types.Unalias(t).(*types.Named)
	return named
}

// isNamed reports whether t is the type, or a pointer to it.
func isNamed(t types.Type, pkg, name string) bool {
	if t == nil {
		return false
	}
	named := namedOf(t)
	return named != nil && named.Obj().Pkg() != nil &&
		named.Obj().Pkg().Path() == pkg && named.Obj().Name() == name
}

func isContext(t types.Type) bool { return isNamed(t, "context", "Context") }

// receiver returns what stands before the dot of a call of a method.
func receiver(call *ast.CallExpr) ast.Expr {
	if sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr); ok {
		return sel.X
	}
	return nil
}

// contextArg returns the argument for the first parameter that is a context, or nil. It may be
// of another type, as the context of a web framework.
func contextArg(info *types.Info, call *ast.CallExpr) ast.Expr {
	t := info.TypeOf(call.Fun)
	if t == nil {
		return nil
	}
	sig, ok := t.Underlying().(*types.Signature)
	if !ok {
		return nil
	}
	for i := range min(sig.Params().Len(), len(call.Args)) {
		if isContext(sig.Params().At(i).Type()) {
			return call.Args[i]
		}
	}
	return nil
}

// unitFunc returns the argument of a call that is run as, or in, a unit of work, with a
// context of its own.
func unitFunc(info *types.Info, call *ast.CallExpr) ast.Expr {
	c := calleeOf(info, call)
	at := 1
	switch {
	case c.is(corePath, "Run", "Join", "BeforeCommit", "AfterCommit", "AfterRollback", "DB.Atomic",
		"DB.Detached", "DB.BeforeCommit", "DB.AfterCommit", "DB.AfterRollback"):
	case c.is(corePath, "Group.Go"):
		at = 0
	default:
		return nil
	}
	if at >= len(call.Args) {
		return nil // f() of several results
	}
	return ast.Unparen(call.Args[at])
}
