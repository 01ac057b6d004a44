package routertest

import (
	"net/http"
	"testing"

	"github.com/dbscope/dbscope/middleware/middlewaretest"
)

// Safe is the metadata of calls that are to be read-only.
const Safe = "X-Safe"

// Ask calls a method with the metadata, and returns the status as the exchange
// has it and the tokens of the trailer at the end.
type Ask func(t *testing.T, url string, metadata map[string]string) (status int, tokens []string)

// RunRPC is Run for calls, whose answers have the token in the trailer: that of
// all that was committed until the end.
func RunRPC(t *testing.T, f middlewaretest.Framework, ask Ask) { run(t, f, ask.caller()) }

// RunUnscopedRPC is RunUnscoped for calls.
func RunUnscopedRPC(t *testing.T, f middlewaretest.Framework, ask Ask) {
	runUnscoped(t, f, ask.caller())
}

func (ask Ask) caller() caller {
	return caller{trailer: true, ask: func(t *testing.T, method, url, header, _ string) (int, []string) {
		t.Helper()
		metadata := map[string]string{}
		if header != "" {
			metadata[Header] = header
		}
		if method == http.MethodGet {
			metadata[Safe] = "yes"
		}
		return ask(t, url, metadata)
	}}
}
