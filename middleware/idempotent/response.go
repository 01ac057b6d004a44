package idempotent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/http"
)

// response is what was written inside the middleware.
type response struct {
	status          int
	header, trailer []change
	body            []byte
}

// format is the first byte of a stored response, for those of later versions to be
// told from it.
const format = 1

// encode makes the text that is stored. Values of headers may be any bytes, so that
// each stands behind its length.
func (s *response) encode() []byte {
	b := binary.AppendUvarint([]byte{format}, uint64(s.status)) //nolint:gosec // three digits
	for _, all := range [][]change{s.header, s.trailer} {
		b = binary.AppendUvarint(b, uint64(len(all)))
		for _, c := range all {
			b = appendText(b, c.key)
			b = append(b, byte(c.how))
			b = binary.AppendUvarint(b, uint64(len(c.values)))
			for _, value := range c.values {
				b = appendText(b, value)
			}
		}
	}
	return append(b, s.body...)
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

var errFormat = errors.New("idempotent: the stored response cannot be read: it was written by another version, or by something else")

// decode reads what encode has made.
func decode(stored []byte) (*response, error) {
	if len(stored) == 0 || stored[0] != format {
		return nil, errFormat
	}
	d := decoder{rest: stored[1:]}
	s := &response{status: d.number(999)}
	for _, all := range []*[]change{&s.header, &s.trailer} {
		for range d.number(len(d.rest)) {
			c := change{key: d.text(), how: how(d.number(int(remove)))}
			for range d.number(len(d.rest)) {
				c.values = append(c.values, d.text())
			}
			*all = append(*all, c)
			if d.failed {
				return nil, errFormat
			}
		}
	}
	if d.failed || s.status < 200 && s.status != http.StatusSwitchingProtocols {
		return nil, errFormat
	}
	s.body = d.rest
	return s, nil
}

// decoder reads numbers and texts. Once it has failed it reads nothing.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) number(most int) int {
	n, size := binary.Uvarint(d.rest)
	if d.failed || size <= 0 || n > uint64(most) { //nolint:gosec // it is never negative
		d.failed = true
		return 0
	}
	d.rest = d.rest[size:]
	return int(n) //nolint:gosec // at most most
}

func (d *decoder) text() string {
	n := d.number(len(d.rest))
	if d.failed || n > len(d.rest) {
		d.failed = true
		return ""
	}
	text := string(d.rest[:n])
	d.rest = d.rest[n:]
	return text
}

// stored is a row of the table.
type stored struct{ request, response []byte }

// answers reports whether the response is one to this request.
func (s *stored) answers(request []byte) bool { return bytes.Equal(s.request, request) }

// play writes the response as its handler did. After an error nothing was written.
func (s *stored) play(w http.ResponseWriter) error {
	was, err := decode(s.response)
	if err != nil {
		return err
	}
	h := w.Header()
	apply(was.header, h)
	h.Set(ReplayedHeader, "true")
	w.WriteHeader(was.status)
	if len(was.body) > 0 {
		_, _ = w.Write(was.body) // a client that is gone is not the handler's to know
	}
	apply(was.trailer, h)
	return nil
}
