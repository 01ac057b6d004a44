package dbscopevet

import (
	"go/ast"
	"go/token"
	"go/types"
)

// background stands for the contexts that have nothing to do with the caller's.
var background = types.NewVar(token.NoPos, nil, "context.Background()", types.Typ[types.Invalid])

// origins knows what the contexts in the variables of a package were made of.
type origins struct {
	info *types.Info
	made map[types.Object][]ast.Expr // by variable: the calls that its contexts come from
}

func newOrigins(info *types.Info, files []*ast.File) *origins {
	o := &origins{info, map[types.Object][]ast.Expr{}}
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				o.assigned(n.Lhs, n.Rhs)
			case *ast.ValueSpec:
				names := make([]ast.Expr, len(n.Names))
				for i, name := range n.Names {
					names[i] = name
				}
				o.assigned(names, n.Values)
			}
			return true
		})
	}
	return o
}

func (o *origins) assigned(to, from []ast.Expr) {
	for i, left := range to {
		v := variable(o.info, left)
		if v == nil || !isContext(v.Type()) || v.(*types.Var).IsField() {
			continue
		}
		switch {
		case len(from) == len(to):
			o.made[v] = append(o.made[v], from[i])
		case len(from) == 1:
			o.made[v] = append(o.made[v], from[0])
		}
	}
}

// of returns the variable that a context comes from: the parameter of a function, the request
// whose method Context returned it, or what else is not made of another context. It is
// background, or nil where there are several or it cannot be known.
func (o *origins) of(ctx ast.Expr) types.Object { return o.follow(ctx, map[types.Object]bool{}) }

func (o *origins) follow(ctx ast.Expr, seen map[types.Object]bool) types.Object {
	switch e := ast.Unparen(ctx).(type) {
	case *ast.Ident, *ast.SelectorExpr:
		v := variable(o.info, e)
		if v == nil || seen[v] {
			return nil
		}
		seen[v] = true
		from := o.made[v]
		if len(from) == 0 {
			return v
		}
		return o.common(v, from, seen)
	case *ast.CallExpr:
		return o.result(e, seen)
	}
	return nil
}

// common returns the origin that all contexts assigned to the variable share.
func (o *origins) common(v types.Object, from []ast.Expr, seen map[types.Object]bool) types.Object {
	var common types.Object
	if isParam(v) {
		common = v
	}
	for _, e := range from {
		if o.mentions(e, v) { // ctx = context.WithValue(ctx, ...)
			continue
		}
		var origin types.Object
		if call, ok := ast.Unparen(e).(*ast.CallExpr); ok && o.fresh(call) {
			origin = v
		} else {
			origin = o.follow(e, seen)
		}
		if origin == nil || common != nil && origin != common {
			return nil
		}
		common = origin
	}
	return common
}

func (o *origins) mentions(e ast.Expr, v types.Object) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && o.info.Uses[id] == v {
			found = true
		}
		return !found
	})
	return found
}

// fresh reports whether the call makes a context with a scope of its own.
func (o *origins) fresh(call *ast.CallExpr) bool {
	return calleeOf(o.info, call).is(corePath, "Begin", "DB.Adopt")
}

// result returns the origin of the context that a call returns.
func (o *origins) result(call *ast.CallExpr, seen map[types.Object]bool) types.Object {
	c := calleeOf(o.info, call)
	switch {
	case c.is("context", "Background", "TODO"):
		return background
	case c.is(corePath, "WithoutScope"), c.pkg == testPath, o.fresh(call):
		return nil
	}
	if arg := contextArg(o.info, call); arg != nil {
		return o.follow(arg, seen)
	}
	if c.fn != nil && c.fn.Name() == "Context" && len(call.Args) == 0 {
		return leftmost(o.info, receiver(call)) // r.Context(), c.Request.Context()
	}
	return nil
}

// variable returns the variable or field that an expression names.
func variable(info *types.Info, e ast.Expr) types.Object {
	var id *ast.Ident
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		id = e
	case *ast.SelectorExpr:
		id = e.Sel
	default:
		return nil
	}
	if v, ok := info.ObjectOf(id).(*types.Var); ok {
		return v.Origin()
	}
	return nil
}

// leftmost returns the variable that an expression such as a.b[i].c begins with; it is nil
// where that is a package or a call.
func leftmost(info *types.Info, e ast.Expr) types.Object {
	for e != nil {
		switch x := ast.Unparen(e).(type) {
		case *ast.Ident:
			return variable(info, x)
		case *ast.SelectorExpr:
			if id, ok := x.X.(*ast.Ident); ok {
				if _, ok := info.Uses[id].(*types.PkgName); ok {
					return variable(info, x.Sel)
				}
			}
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.CallExpr: // c.Request().Context()
			e = receiver(x)
		default:
			return nil
		}
	}
	return nil
}

// within reports whether the variable is declared inside the node.
func within(v types.Object, n ast.Node) bool { return n.Pos() <= v.Pos() && v.Pos() < n.End() }

func isParam(v types.Object) bool {
	p, ok := v.(*types.Var)
	return ok && (p.Kind() == types.ParamVar || p.Kind() == types.RecvVar)
}
