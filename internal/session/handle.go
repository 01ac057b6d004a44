package session

import "github.com/dbscope/dbscope/driver"

// HandleOf returns the session's native handle, and makes it once.
func HandleOf[H any](adapter driver.Adapter[H], s *Session) (H, error) {
	if h := s.handle.Load(); h != nil {
		return (*h).(H), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.handle.Load(); h != nil {
		return (*h).(H), nil
	}
	var none H
	if err := s.OverError(); err != nil {
		return none, err
	}
	h, ended, err := adapter.Handle(s)
	if err != nil {
		return none, s.DB.Errorf("making a handle: %w", err)
	}
	boxed := any(h)
	s.handle.Store(&boxed)
	s.handleOver = ended
	return h, nil
}
