package subject

import (
	"context"
	"errors"
	"net/http"
	"strconv"
)

// Rows is how many rows the table has, from 0 on. Requests whose ids are at
// least [Width] apart meet no lock of each other.
const (
	Rows  = 16400
	Width = 8
)

// Works are the kinds of requests.
var Works = []string{"read", "write", "mixed"}

// Method is that of a kind of request.
func Method(work string) string {
	if work == "read" {
		return http.MethodGet
	}
	return http.MethodPost
}

// service is what a subject implements: each function is a whole request.
type service struct {
	read, write, mixed func(ctx context.Context, id int) (int, error)
}

func (s service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /read/{id}", answer(s.read))
	mux.Handle("POST /write/{id}", answer(s.write))
	mux.Handle("POST /mixed/{id}", answer(s.mixed))
	return mux
}

// answer is all that is HTTP, and the same for all subjects.
func answer(unit func(ctx context.Context, id int) (int, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		n, err := unit(r.Context(), id)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(strconv.AppendInt(nil, int64(n), 10)) // the client may have gone
	})
}

// statements are those of a library, on a transaction or without one.
type statements interface {
	selectN(ctx context.Context, id int) (int, error)
	update(ctx context.Context, id int) (rows int, err error)
	updateLast(ctx context.Context, id int) (rows int, err error) // that of a unit whose last statement it is
}

// The functions below are generic, and not of the interface, since the
// conversion to it would be an allocation more than code by hand has.

func read[S statements](ctx context.Context, s S, id int) (int, error) { return s.selectN(ctx, id) }

var errNoRow = errors.New("there is no such row")

func write[S statements](ctx context.Context, s S, id int) (int, error) {
	return one(s.updateLast(ctx, id))
}

// one is the result of an update of one row.
func one(rows int, err error) (int, error) {
	if err == nil && rows != 1 {
		err = errNoRow
	}
	return rows, err
}

// mixed reads five rows and writes three, the last statement is a write, and
// returns the sum of what it has read.
func mixed[S statements](ctx context.Context, s S, id int) (sum int, err error) {
	for i := range 5 {
		n, err := s.selectN(ctx, id+i)
		if err != nil {
			return 0, err
		}
		sum += n
		switch i {
		case 0, 2:
			_, err = one(s.update(ctx, id+i))
		case 4:
			_, err = one(s.updateLast(ctx, id+i))
		}
		if err != nil {
			return 0, err
		}
	}
	return sum, nil
}
