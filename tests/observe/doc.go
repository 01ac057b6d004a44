// Package observe sows faults into a copy of the service of examples/orders, one at a
// time, and checks that what watches it finds each of them by its name: in the log of
// slogscope, on the page of livescope, and in the metrics of otelscope. An honest load
// raises no alarm. docs/observe.md has the table of the faults.
//
//	go test -v ./tests/observe
//	DBSCOPE_LONG=1 go test -v -run Honest ./tests/observe # 10,000 requests
package observe
