package pgxwire

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// FuzzWire runs the program that the bytes stand for.
func FuzzWire(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the seeds are to be the same each time
	for range 200 {
		seed := make([]byte, 10+random.IntN(110))
		for i := range seed {
			seed[i] = byte(random.Uint32())
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, bytes []byte) { compare(t, decode(bytes)) })
}

// The same without the fuzzer, which is slow under the race detector.
func TestWhateverArrivesWhenAUnitIsAsPgxAloneWouldHaveIt(t *testing.T) {
	programs := 2000
	if os.Getenv("DBSCOPE_LONG") != "" {
		programs = 50_000
	}
	bytes := make([]byte, 120)
	for range programs {
		for i := range bytes {
			bytes[i] = byte(rand.Uint32())
		}
		if compare(t, decode(bytes)); t.Failed() {
			t.Fatalf("program: %q", bytes)
		}
	}
}

// patience is far beyond what a program takes.
const patience = 10 * time.Second

func compare(t *testing.T, p program) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	byHand, ours := newServer(p), newServer(p)
	want, got := alone(ctx, byHand), scoped(ctx, ours)
	if ctx.Err() != nil {
		t.Fatalf("the program hangs: %+v", p)
	}
	byHand.running.Wait()
	ours.running.Wait()
	same(t, p, "what statements answered", got.lines, want.lines)
	same(t, p, "what was heard", got.heard, want.heard)
	same(t, p, "what is stored", ours.stored, byHand.stored)
	same(t, p, "what ran outside a transaction", ours.outside, nil)
}

func same(t *testing.T, p program, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q\nprogram: %+v", what, got, want, p)
	}
}
