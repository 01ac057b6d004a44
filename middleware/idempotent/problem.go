package idempotent

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// Problem says why a request was not served, as RFC 9457 does.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

const about = "https://github.com/dbscope/dbscope/blob/main/docs/idempotency.md#what-a-client-gets"

var (
	noPrincipal = problem(http.StatusForbidden, "The request is nobody's", "A key belongs to whom the request is made for, and that is not known.")
	tooLarge    = problem(http.StatusRequestEntityTooLarge, "The request is too large", "A request with a key is read whole before it is served.")
	unreadable  = problem(http.StatusBadRequest, "The request could not be read", "")
	inUse       = problem(http.StatusConflict, "A request with this key is being served", "Nothing was done: send the same request again to get its answer.")
	failed      = problem(http.StatusInternalServerError, http.StatusText(http.StatusInternalServerError), "Nothing was done: the same request may be sent again.")
)

func problem(status int, title, detail string) Problem { return Problem{about, title, status, detail} }

func badKey(header string, err error) Problem {
	if err == errNoKey { //nolint:errorlint // it is never wrapped
		return problem(http.StatusBadRequest, header+" is missing", "This request is done exactly once, for which it needs a key.")
	}
	return problem(http.StatusBadRequest, header+" is not valid", fmt.Sprintf("A key is a string of 1 to %d characters in double quotes: %v.", maxKey, err))
}

func keyReused(header string) Problem {
	return problem(http.StatusUnprocessableEntity, header+" is already used", "Another request was made with this key. A new request needs a new key.")
}

// retryAfter is how many seconds a client shall wait before it asks again: it has
// waited for the database already.
const retryAfter = "1"

func (g *guard) refuse(w http.ResponseWriter, r *http.Request, p Problem) {
	if p.Status == http.StatusConflict {
		w.Header().Set("Retry-After", retryAfter)
	}
	g.options.refuse(w, r, p)
}

func writeProblem(w http.ResponseWriter, _ *http.Request, p Problem) {
	text, _ := json.Marshal(p) // strings and a number always can be
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(text, '\n'))
}
