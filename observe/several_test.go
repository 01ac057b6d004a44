package observe_test

import (
	"context"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/observe"
)

// scribe writes what it is told to the same sheet as others. A deaf one wants to know no
// more.
type scribe struct {
	name  string
	deaf  bool
	sheet *strings.Builder
}

type seenKey struct{}

func (s *scribe) Start(ctx context.Context, _ observe.Event) (context.Context, observe.Span) {
	seen, _ := ctx.Value(seenKey{}).(string)
	s.sheet.WriteString(" +" + s.name + "(" + seen + ")")
	ctx = context.WithValue(ctx, seenKey{}, seen+s.name)
	if s.deaf {
		return ctx, nil
	}
	return ctx, s
}

func (s *scribe) End(context.Context, observe.Event) { s.sheet.WriteString(" -" + s.name) }

func TestObserversTogetherAreToldInTheirOrderAndOfTheEndTheOtherWayRound(t *testing.T) {
	for name, c := range map[string]struct {
		observers string // those in capitals are deaf
		want      string
	}{
		"none":                       {"", ""},
		"one":                        {"a", " +a() +a(a) -a -a"},
		"several":                    {"abc", " +a() +b(a) +c(ab) +a(abc) +b(abca) +c(abcab) -c -b -a -c -b -a"},
		"some that want no more":     {"Abc", " +A() +b(A) +c(Ab) +b(Abc) +c(Abcb) -c -b -c -b"},
		"all but one want no more":   {"AbC", " +A() +b(A) +C(Ab) +b(AbC) -b -b"},
		"none of whom wants more":    {"AB", " +A() +B(A)"},
		"the last one wants no more": {"abC", " +a() +b(a) +C(ab) +a(abC) +b(abCa) -b -a -b -a"},
	} {
		t.Run(name, func(t *testing.T) {
			var sheet strings.Builder
			all := []observe.Observer{nil}
			for _, r := range c.observers {
				all = append(all, &scribe{string(r), strings.ToUpper(string(r)) == string(r), &sheet})
			}
			if o := observe.Together(all...); o != nil {
				ctx, span := o.Start(t.Context(), observe.Event{})
				if span != nil {
					ctx, inner := span.Start(ctx, observe.Event{})
					inner.End(ctx, observe.Event{})
					span.End(ctx, observe.Event{})
				}
			}
			if got := sheet.String(); got != c.want {
				t.Errorf("told%s, want%s", got, c.want)
			}
		})
	}
}
