package livescope

import (
	"encoding/json"
	"net/http"
	"time"
)

// mostVisitors bounds the streams that are open at a time.
const mostVisitors = 8

// sendTimeout is how long one part of a stream may take to leave.
const sendTimeout = 10 * time.Second

// stream sends what goes on, as server-sent events, until the client goes away.
func (p *Page) stream(w http.ResponseWriter, r *http.Request) {
	select {
	case p.visitors <- struct{}{}:
		defer func() { <-p.visitors }()
	default:
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many look at this page", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	if r.Method == http.MethodHead {
		return
	}
	control := http.NewResponseController(w)
	ticks := time.NewTicker(p.every)
	defer ticks.Stop()
	for {
		data, err := json.Marshal(p.overview(time.Now()))
		if err == nil {
			_ = control.SetWriteDeadline(time.Now().Add(sendTimeout)) // longer than that of the server, or there is none
			_, err = w.Write(append(append([]byte("data: "), data...), "\n\n"...))
		}
		if err == nil {
			err = control.Flush()
		}
		if err != nil {
			return
		}
		select {
		case <-ticks.C:
		case <-r.Context().Done():
			return
		}
	}
}
