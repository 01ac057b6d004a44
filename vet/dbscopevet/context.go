package dbscopevet

import (
	"go/ast"
	"go/types"

	"golang.org/x/tools/go/analysis"
)

var contextRule = rule("scopecontext", `find the outer context inside the function of a unit

The functions of Run, Join, Atomic, Detached, Group.Go and hooks get a context of their own.
A statement with that of the code around them runs in the outer unit, or nowhere: it is refused
while a block is open, and stored or undone with another unit than the one it stands in.`, (*scopes).checkContexts)

func (s *scopes) checkContexts() {
	for _, file := range s.pass.Files {
		s.inUnits(file, func(call *ast.CallExpr, unit *ast.FuncLit) {
			if unit == nil || !s.takesUnit(call) {
				return
			}
			ctx := contextArg(s.info, call)
			origin := s.origins.of(ctx)
			if origin == nil || origin == background || within(origin, unit) {
				return
			}
			s.report(ctx, "the function of a unit uses the context from outside of it, "+types.ExprString(ctx)+
				", and not its own: what is done with it is not part of this unit", s.ownContext(ctx, unit, origin)...)
		})
	}
}

// takesUnit reports whether the call is one that should get the unit's context: one that reaches
// a database, or may, as the method of an interface of this module, or a function value.
func (s *scopes) takesUnit(call *ast.CallExpr) bool {
	ctx := contextArg(s.info, call)
	if ctx == nil {
		return false
	}
	if s.reach[call] != 0 {
		return true
	}
	c := calleeOf(s.info, call)
	if c.fn == nil {
		return s.isFuncValue(call) && fails(s.info.TypeOf(call.Fun))
	}
	return c.abstract() && s.own(c.fn) && fails(c.fn.Type())
}

func (s *scopes) isFuncValue(call *ast.CallExpr) bool {
	tv := s.info.Types[ast.Unparen(call.Fun)]
	_, literal := ast.Unparen(call.Fun).(*ast.FuncLit)
	return tv.IsValue() && !tv.IsBuiltin() && !literal
}

// fails reports whether the function's last result is an error: a database can always fail,
// so that one without is a logger or the like.
func fails(fn types.Type) bool {
	sig, ok := fn.Underlying().(*types.Signature)
	if !ok || sig.Results().Len() == 0 {
		return false
	}
	return types.Identical(sig.Results().At(sig.Results().Len()-1).Type(), types.Universe.Lookup("error").Type())
}

// ownContext suggests the unit's own context for the outer one, where that is a parameter or
// the request's: a variable could remain without a use, and what was made of a context, as one
// with a timeout, is not the same as the unit's.
func (s *scopes) ownContext(ctx ast.Expr, unit *ast.FuncLit, origin types.Object) []analysis.SuggestedFix {
	outer, isName := ast.Unparen(ctx).(*ast.Ident)
	param := isName && isParam(origin) && s.info.Uses[outer] == origin
	if own := s.units[unit]; own != nil {
		call, isCall := ast.Unparen(ctx).(*ast.CallExpr)
		request := isCall && len(call.Args) == 0 // r.Context()
		if (param || request) && s.means(own, ctx) {
			return []analysis.SuggestedFix{replace("Use "+own.Name(), ctx.Pos(), ctx.End(), own.Name())}
		}
		return nil
	}
	if !param {
		return nil
	}
	// With the name of the outer one it is what the function means wherever it says so.
	field := unit.Type.Params.List[0]
	if len(field.Names) == 0 {
		if len(unit.Type.Params.List) > 1 {
			return nil // all of them would need names
		}
		return []analysis.SuggestedFix{replace("Name the unit's context", field.Pos(), field.Pos(), outer.Name+" ")}
	}
	return []analysis.SuggestedFix{replace("Name the unit's context", field.Names[0].Pos(), field.Names[0].End(), outer.Name)}
}

// means reports whether the variable's name means the variable at the place of the node.
func (s *scopes) means(v types.Object, at ast.Node) bool {
	scope := s.pass.Pkg.Scope().Innermost(at.Pos())
	if scope == nil {
		return false
	}
	_, found := scope.LookupParent(v.Name(), at.Pos())
	return found == v
}
