// Package invariant lets tests hear of what must never happen.
package invariant

// Broken is called with what happened, where a test has set it before all else.
var Broken func(what string)

// Break tells of it. A service goes on as well as it can.
func Break(what string) {
	if Broken != nil {
		Broken(what)
	}
}
