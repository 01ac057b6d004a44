package driver

// AnyError reports whether the predicate holds for err or for any error that it
// wraps, in all branches. [errors.As] stops at the first error that fits: of two
// errors of a database, joined, it finds one only.
func AnyError(err error, holds func(error) bool) bool {
	if err == nil {
		return false
	}
	if holds(err) {
		return true
	}
	switch w := err.(type) { //nolint:errorlint // it is what errors.As does
	case interface{ Unwrap() error }:
		return AnyError(w.Unwrap(), holds)
	case interface{ Unwrap() []error }:
		for _, inner := range w.Unwrap() {
			if AnyError(inner, holds) {
				return true
			}
		}
	}
	return false
}
