package http_test

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
)

// accept answers a WebSocket handshake by hand: RFC 6455, section 4.2.2.
func accept(w http.ResponseWriter, r *http.Request, writeHeader bool) (net.Conn, *bufio.ReadWriter, error) {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	key := base64.StdEncoding.EncodeToString(sum[:])
	if writeHeader { // some libraries do, others write it on the connection
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Sec-WebSocket-Accept", key)
		w.WriteHeader(http.StatusSwitchingProtocols)
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err == nil && !writeHeader {
		_, err = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
			"Sec-WebSocket-Accept: " + key + "\r\n\r\n")
		err = errors.Join(err, rw.Flush())
	}
	return conn, rw, err
}

func TestAWebSocketUpgradeCommitsAndLateWorkIsCommittedAtTheEnd(t *testing.T) {
	onEach(t, func(t *testing.T, s *service) {
		server := s.serve(func(w http.ResponseWriter, r *http.Request) {
			if !s.check(w, s.place(r.Context(), 1)) {
				return
			}
			conn, rw, err := accept(w, r, r.URL.Path == "/header")
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			s.wantStored(1)
			for { // unmasked text frames of one byte, both ways
				frame := make([]byte, 3)
				if _, err := io.ReadFull(rw, frame); err != nil {
					t.Error(err)
					return
				}
				if frame[2] == '.' {
					break
				}
				_, _ = rw.Write(frame)
				_ = rw.Flush()
			}
			if err := s.place(r.Context(), 2); err != nil {
				t.Error(err)
			}
		}, nil)
		for _, path := range []string{"/header", "/raw"} {
			_, err := s.engine().ExecContext(t.Context(), "DELETE FROM orders")
			must(t, err)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, http.NoBody)
			must(t, err)
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", "websocket")
			r.Header.Set("Sec-WebSocket-Version", "13")
			r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
			resp, err := server.Client().Transport.RoundTrip(r)
			must(t, err)
			if resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
				t.Fatalf("the upgrade was answered with %d %v", resp.StatusCode, resp.Header)
			}
			socket := resp.Body.(io.ReadWriteCloser)
			for _, b := range []byte("abc.") {
				frame := []byte{0x81, 1, b}
				_, err := socket.Write(frame)
				must(t, err)
				if b == '.' {
					break
				}
				echo := make([]byte, 3)
				if _, err := io.ReadFull(socket, echo); err != nil || string(echo) != string(frame) {
					t.Errorf("the socket answered %q, %v", echo, err)
				}
			}
			<-s.ended
			_ = socket.Close()
			s.wantStored(1, 2)
			s.wantErrors(0)
			s.wantNoneInUse()
		}
	})
}

func TestACommitThatFailsAtTheUpgradeRefusesIt(t *testing.T) {
	onEach(t, func(t *testing.T, s *service) {
		server := s.serve(func(w http.ResponseWriter, r *http.Request) {
			if !s.check(w, s.placeLost(r.Context(), 1)) {
				return
			}
			if _, _, err := accept(w, r, r.URL.Path == "/header"); err == nil {
				t.Error("the connection was handed over")
			}
		}, nil)
		for _, path := range []string{"/header", "/raw"} {
			resp, body := s.send(server, http.MethodGet, path)
			s.want(resp, body, 500, page)
		}
		s.wantStored()
		s.wantErrors(2)
	})
}

func TestHTTP2CannotBeHijackedAndTheAnswerIsSentAsUsual(t *testing.T) {
	onEach(t, func(t *testing.T, s *service) {
		server := s.start(func(w http.ResponseWriter, r *http.Request) {
			if !s.check(w, s.place(r.Context(), 1)) {
				return
			}
			if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("Hijack returned %v", err)
			}
			http.Error(w, "no upgrade here", http.StatusUpgradeRequired)
		}, nil, true)
		resp, body := s.send(server, http.MethodGet, "/")
		s.want(resp, body, 426, "no upgrade here\n")
		s.wantStored()
	})
}
