package httpscope

import (
	"errors"
	"net/http"
)

type phase uint8

const (
	holding phase = iota
	passing       // the response has begun
	hijacked
	failed // the client gets, or has got, the failure page
	ended
)

var errEnded = errors.New("httpscope: the handler of this ResponseWriter has returned")

func (w *writer) now() phase {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.phase
}

func (w *writer) enter(p phase) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.phase = p
}

// take gets what is held and enters the phase in which it is not.
func (w *writer) take(p phase) *held {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.held
	w.phase, w.held = p, nil
	return h
}

// pass gets what is held, for the response to begin, unless that is not to be.
func (w *writer) pass() *held {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase != holding {
		return nil
	}
	h := w.held
	w.phase, w.held = passing, nil
	return h
}

func (w *writer) closed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refusal()
}

// refusal says why nothing can be written. The caller holds mu.
func (w *writer) refusal() error {
	switch w.phase {
	case failed:
		return w.err
	case hijacked:
		return http.ErrHijacked
	case ended:
		return errEnded
	}
	return nil
}
