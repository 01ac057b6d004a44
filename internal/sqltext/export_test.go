package sqltext

// ControlSlowly is [Control] without its short cuts.
func ControlSlowly(dialects Dialect, text string) (in Dialect) {
	for d := PostgreSQL; d < Any; d <<= 1 {
		if d&dialects != 0 && d.control(text, false) != "" {
			in |= d
		}
	}
	return in
}
