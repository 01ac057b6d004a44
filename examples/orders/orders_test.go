package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestAnOrderIsPlacedShownAndCancelled(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		o := s.mustPlace(t, Wish{"ada", "tea", 3})
		s.checkStored(t, 1, 1, fullStock-3)

		var shown orderWithEvents
		checkEqual(t, "status of show", s.call(t, "GET", "/orders/"+o.ID, nil, &shown), http.StatusOK)
		checkEqual(t, "the order shown", shown.Order, o)

		checkEqual(t, "status of cancel", s.call(t, "POST", "/orders/"+o.ID+"/cancel", nil, &o), http.StatusOK)
		checkEqual(t, "status of the order", o.Status, cancelled)
		s.checkStored(t, 1, 2, fullStock)

		s.call(t, "GET", "/orders/"+o.ID, nil, &shown)
		if len(shown.Events) != 2 || shown.Events[0].Action != placed || shown.Events[1].Action != cancelled {
			t.Errorf("the events are %v, want placed, cancelled", shown.Events)
		}
	})
}

func TestAnOrderCannotBeCancelledTwice(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		o := s.mustPlace(t, Wish{"ada", "tea", 1})
		var ok, conflict atomic.Int32
		side(20, func(int) {
			switch status := s.call(t, "POST", "/orders/"+o.ID+"/cancel", nil, nil); status {
			case http.StatusOK:
				ok.Add(1)
			case http.StatusConflict:
				conflict.Add(1)
			default:
				t.Errorf("cancelling answers %d", status)
			}
		})
		checkEqual(t, "cancelled", ok.Load(), 1)
		checkEqual(t, "refused", conflict.Load(), 19)
		s.checkStored(t, 1, 2, fullStock)
	})
}

func TestPagesShowEveryOrderOnceTheNewestFirst(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		var want []string
		for i := range 7 {
			o := s.mustPlace(t, Wish{fmt.Sprint("customer ", i), "tea", 1})
			want = append([]string{o.ID}, want...)
		}
		var got []string
		for next := "/orders?limit=3"; next != ""; {
			var p page
			checkEqual(t, "status of list", s.call(t, "GET", next, nil, &p), http.StatusOK)
			for _, o := range p.Orders {
				got = append(got, o.ID)
			}
			next = p.Next
		}
		checkEqual(t, "ids", strings.Join(got, " "), strings.Join(want, " "))
	})
}

func TestAnOrderIsRefusedWithoutATrace(t *testing.T) {
	tests := []struct {
		name, body string
		status     int
	}{
		{"no JSON", `{`, http.StatusBadRequest},
		{"an unknown field", `{"customer": "ada", "sku": "tea", "quantity": 1, "price": 0}`, http.StatusBadRequest},
		{"two values", `{"customer": "ada", "sku": "tea", "quantity": 1} {}`, http.StatusBadRequest},
		{"no customer", `{"sku": "tea", "quantity": 1}`, http.StatusUnprocessableEntity},
		{"a negative quantity", `{"customer": "ada", "sku": "tea", "quantity": -1}`, http.StatusUnprocessableEntity},
		{"an unknown article", `{"customer": "ada", "sku": "unicorn", "quantity": 1}`, http.StatusUnprocessableEntity},
		{"out of stock", `{"customer": "ada", "sku": "last-cup", "quantity": 2}`, http.StatusConflict},
		{"a large body", `{"customer": "` + strings.Repeat("a", maxJSONBytes) + `"}`, http.StatusRequestEntityTooLarge},
	}
	onEachDatabase(t, func(t *testing.T, s *service) {
		for _, test := range tests {
			var p problem
			status := s.call(t, "POST", "/orders", strings.NewReader(test.body), &p)
			checkEqual(t, "status of "+test.name, status, test.status)
			if p.Error == "" || p.Error == internalError {
				t.Errorf("the answer to %s does not say why: %q", test.name, p.Error)
			}
		}
		s.checkStored(t, 0, 0, fullStock)
	})
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		checkEqual(t, "status of show", s.call(t, "GET", "/orders/nothing", nil, nil), http.StatusNotFound)
		checkEqual(t, "status of cancel", s.call(t, "POST", "/orders/nothing/cancel", nil, nil), http.StatusNotFound)
		checkEqual(t, "status of list", s.call(t, "GET", "/orders?limit=0", nil, nil), http.StatusBadRequest)
	})
}

func TestOneOfManyClientsGetsTheLastPiece(t *testing.T) {
	const clients = 60
	onEachDatabase(t, func(t *testing.T, s *service) {
		var won, refused atomic.Int32
		side(clients, func(i int) {
			switch status := s.place(t, Wish{fmt.Sprint("customer ", i), "last-cup", 1}, nil); status {
			case http.StatusCreated:
				won.Add(1)
			case http.StatusConflict:
				refused.Add(1)
			default:
				t.Errorf("placing answers %d", status)
			}
		})
		checkEqual(t, "winners", won.Load(), 1)
		checkEqual(t, "refused", refused.Load(), clients-1)
		checkEqual(t, "left", s.count(t, `select quantity from stock where sku = 'last-cup'`), 0)
		s.checkStored(t, 1, 1, fullStock)
	})
}

func TestManyClientsPlaceAndReadAtOnce(t *testing.T) {
	const clients = 40
	onEachDatabase(t, func(t *testing.T, s *service) {
		side(clients, func(i int) {
			var o Order
			checkEqual(t, "status of place", s.place(t, Wish{fmt.Sprint("customer ", i), "tea", 2}, &o), http.StatusCreated)
			checkEqual(t, "status of show", s.call(t, "GET", "/orders/"+o.ID, nil, nil), http.StatusOK)
			checkEqual(t, "status of stock", s.call(t, "GET", "/stock", nil, nil), http.StatusOK)
		})
		s.checkStored(t, clients, clients, fullStock-2*clients)
	})
}

func TestOrderStockAndAuditAreOneTransaction(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		o := s.mustPlace(t, Wish{"ada", "tea", 1})
		s.exec(t, `alter table audit rename to hidden`) // so that the last statement of each fails
		var p problem
		checkEqual(t, "status of place", s.place(t, Wish{"bob", "tea", 1}, &p), http.StatusInternalServerError)
		checkEqual(t, "error", p.Error, internalError)
		checkEqual(t, "status of cancel",
			s.call(t, "POST", "/orders/"+o.ID+"/cancel", nil, nil), http.StatusInternalServerError)
		s.exec(t, `alter table hidden rename to audit`)
		s.checkStored(t, 1, 1, fullStock-1)
		checkEqual(t, "orders still placed", s.count(t, `select count(*) from orders where status = 'placed'`), 1)
	})
}

func TestAFailedCommitIsA500AndNothingIsStored(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		// A constraint that is checked at COMMIT: every statement of the
		// request succeeds, and the handler has answered 201.
		s.exec(t, `create table customers (name text primary key)`)
		s.exec(t, `drop table audit`)
		s.exec(t, `create table audit (id text primary key, order_id text not null, action text not null, at timestamp not null,
			customer text default 'nobody' references customers (name) deferrable initially deferred)`)
		var p problem
		checkEqual(t, "status", s.place(t, Wish{"ada", "tea", 1}, &p), http.StatusInternalServerError)
		checkEqual(t, "error", p.Error, internalError)
		s.checkStored(t, 0, 0, fullStock)

		s.exec(t, `insert into customers values ('nobody')`)
		s.mustPlace(t, Wish{"ada", "tea", 1})
		s.checkStored(t, 1, 1, fullStock-1)
	})
}

// side runs n calls side by side.
func side(n int, call func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { call(i) })
	}
	wg.Wait()
}
