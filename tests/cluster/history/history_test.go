package history_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dbscope/dbscope/tests/cluster/history"
)

// The scripts are lines of operations, each a letter with what happens to it:
// "a!x" a writes x, "a?" a reads; then "a." it is done, "a=x" it saw x,
// "a~" nobody knows, "a-" it failed.
var scripts = []struct {
	name, script string
	good         bool
}{
	{"nothing", "", true},
	{"a read of what was never written", "a? a=", true},
	{"a read of what was written", "a!1 a. b? b=1", true},
	{"a read during a write, of the new value", "a!1 b? b=1 a.", true},
	{"a read during a write, of the old value", "a!1 b? b= a.", true},
	{"reads during a write, of the old value and then the new", "a!1 b? b= c? c=1 a.", true},
	{"writes at once, in either order", "a!1 b!2 b. a. c? c=2", true},
	{"an unknown write that was done", "a!1 a~ b? b=1", true},
	{"an unknown write that was not done", "a!1 a~ b? b=", true},
	{"an unknown write that was done late", "a!1 a~ b? b= c? c=1 d? d=1", true},
	{"an unknown write that was done after a later one", "a!1 a~ b!2 b. c? c=2 d? d=1", true},
	{"a write without an end", "a!1 b? b= c? c=1", true},
	{"a failed write", "a!1 a- b? b=", true},
	{"an unknown read", "a!1 a. b? b~ c? c-", true},
	{"two unknown writes of one value, done at different times", "a!1 b!1 a~ b~ c!2 c. d? d=1 e!3 e. f? f=1", true},
	{"an unknown write of nothing", "a!1 a. b! b~ c? c=1 d? d=", true},

	{"a value that nobody wrote", "a? a=7", false},
	{"a lost write", "a!1 a. b? b=", false},
	{"an old value after the new", "a!1 a. b!2 b. c? c=1", false},
	{"an old value after somebody saw the new", "a!1 b? b=1 c? c= a.", false},
	{"writes in an order that two readers see differently", "a!1 b!2 a. b. c? c=1 d? d=2", false},
	{"a failed write that was done", "a!1 a- b? b=1", false},
	{"an unknown write that was done and undone", "a!1 a~ b? b=1 c? c=", false},
	{"an unknown write that was undone by an old value", "a!1 a. b!2 b~ c? c=2 d? d=1", false},
	{"an unknown write that was done twice", "a!1 a~ b? b=1 c!2 c. d? d=1", false},
	{"a write that was seen before it began", "a? a=1 b!1 b~", false},
	{"two unknown writes of one value, seen three times", "a!1 b!1 a~ b~ c!2 c. d? d=1 e!3 e. f? f=1 g!4 g. h? h=1", false},
}

func TestKnownHistories(t *testing.T) {
	for _, s := range scripts {
		t.Run(s.name, func(t *testing.T) {
			h := history.New()
			play(h, "key", s.script)
			if err := h.Check(time.Minute); (err == nil) != s.good {
				t.Errorf("%s: %v", s.script, err)
			}
		})
	}
}

func TestKeysAreApart(t *testing.T) {
	h := history.New()
	play(h, "good", "a!1 a.")
	play(h, "bad", "a? a=1")
	play(h, "good", "a? a=1")
	err := h.Check(time.Minute)
	if err == nil || !strings.Contains(err.Error(), `"bad"`) || strings.Contains(err.Error(), `"good"`) {
		t.Error(err)
	}
}

func TestErrorShowsWhatIsWrong(t *testing.T) {
	h := history.New()
	play(h, "key", "a!1 a. b? b=1 c!2 c. d? d=1 e? e=2")
	err := h.Check(time.Minute)
	if err == nil || !strings.Contains(err.Error(), "!") || strings.Count(err.Error(), "\n") < 5 {
		t.Error(err)
	}
	for line := range strings.Lines(err.Error()) {
		if strings.HasPrefix(line, "! ") && !strings.Contains(line, `read  "1"`) {
			t.Errorf("the line marked is %s of\n%v", line, err)
		}
	}
}

func TestCount(t *testing.T) {
	h := history.New()
	play(h, "key", "a!1 a. b!2 b~ c!3 c- d? e? e=1")
	if all, unknown, failed := h.Count(); all != 5 || unknown != 2 || failed != 1 {
		t.Error(all, unknown, failed)
	}
}

// What a lock guards is in order. Of the writes, some are done and not known to
// be, and some are neither.
func TestLongHistoryOfARealRegisterIsGoodAndOneWrongReadIsFound(t *testing.T) {
	const keys, clients, each = 20, 40, 500
	h := history.New()
	var mu sync.Mutex
	values := map[string]string{}
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() {
			for i := range each {
				key := fmt.Sprint(rand.IntN(keys))
				if rand.IntN(2) == 0 {
					op := h.Read(key)
					mu.Lock()
					value := values[key]
					mu.Unlock()
					op.Saw(value)
					continue
				}
				value := fmt.Sprint(client, "/", i)
				op := h.Write(key, value)
				lucky := rand.IntN(10)
				if lucky > 0 {
					mu.Lock()
					values[key] = value
					mu.Unlock()
				}
				if lucky > 1 {
					op.Done()
				} else {
					op.Unknown()
				}
			}
		})
	}
	all.Wait()
	begin := time.Now()
	if err := h.Check(time.Minute); err != nil {
		t.Error(err)
	}
	t.Logf("%d operations checked in %v", clients*each, time.Since(begin))

	play(h, "0", "a!old a. b!new b. c? c=old")
	if err := h.Check(time.Minute); err == nil || !strings.Contains(err.Error(), `key "0"`) {
		t.Errorf("a stale read: %v", err)
	}
}

// play does what a script says.
func play(h *history.History, key, script string) {
	ops := map[byte]*history.Op{}
	for word := range strings.FieldsSeq(script) {
		name, sign, value := word[0], word[1], word[2:]
		switch sign {
		case '!':
			ops[name] = h.Write(key, value)
		case '?':
			ops[name] = h.Read(key)
		case '.':
			ops[name].Done()
		case '=':
			ops[name].Saw(value)
		case '~':
			ops[name].Unknown()
		case '-':
			ops[name].Failed()
		default:
			panic(word)
		}
	}
}
