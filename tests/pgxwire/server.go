package pgxwire

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgproto3"
)

// server is what both runs of a program talk to. Several connections may follow
// each other.
type server struct {
	program     program
	statements  map[string]statement
	simpleFirst bool // as a proxy that answers a simple query before what came ahead of it
	endFails    endFailure

	mu      sync.Mutex
	unit    int      // that runs
	stored  []string // tags of what was committed
	outside []string // tags of what ran outside a transaction
	running sync.WaitGroup
}

func newServer(p program) *server {
	s := &server{program: p, statements: map[string]statement{}}
	for _, u := range p.units {
		for _, st := range u.statements {
			s.statements[st.tag] = st
		}
	}
	return s
}

func (s *server) dial() end {
	next := 0
	client, own := connect(func() int {
		if len(s.program.cuts) == 0 {
			return 1 << 20
		}
		next++
		return s.program.cuts[next%len(s.program.cuts)]
	})
	s.running.Go(func() {
		c := &connection{server: s, end: own, backend: pgproto3.NewBackend(own, own), status: 'I', texts: map[string]string{}}
		c.serve()
		_ = own.Close() // never fails
	})
	return client
}

// endFailure is how the first end of a transaction fails, though no PostgreSQL does that.
type endFailure string

const (
	endRefused endFailure = "refused"                    // with an error, and the transaction goes on
	endNoEnd   endFailure = "done, but it is open still" // as ReadyForQuery says
	endFatal   endFailure = "the session is ended"
)

// takeEndFailure returns the failure, once.
func (s *server) takeEndFailure() endFailure {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.endFails
	s.endFails = ""
	return f
}

// connection is one session.
type connection struct {
	*server
	end     end
	backend *pgproto3.Backend
	out     []byte
	status  byte
	skip    bool // up to Sync
	texts   map[string]string
	portal  string
	work    []string // of the open transaction: tags, and savepoints with a colon before
	sent    map[string]int
	copying *statement
	held    bool
}

var errFatal = errors.New("the server ends the session")

func (c *connection) serve() {
	if _, err := c.backend.ReceiveStartupMessage(); err != nil {
		return
	}
	c.put(&pgproto3.AuthenticationOk{})
	for name, value := range map[string]string{
		"client_encoding": "UTF8", "standard_conforming_strings": "on", "server_version": "15.0",
	} {
		c.put(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	c.put(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	c.ready()
	for {
		message, err := c.backend.Receive()
		if err != nil {
			return
		}
		if c.simpleFirst && c.hold(message) {
			continue
		}
		if c.skip {
			if _, sync := message.(*pgproto3.Sync); !sync {
				continue
			}
		}
		err = c.answer(message)
		if errors.Is(err, errFatal) || errors.Is(err, io.EOF) {
			c.flush()
			return
		}
	}
}

// hold keeps what begins a transaction ahead of a simple query, and answers it
// after that.
func (c *connection) hold(message pgproto3.FrontendMessage) bool {
	switch m := message.(type) {
	case *pgproto3.Parse:
		c.held = m.Query == "begin"
	case *pgproto3.Query:
		if c.held {
			_ = c.simple(m.String) // no statement of the program fails
			c.put(&pgproto3.ParseComplete{})
			c.put(&pgproto3.BindComplete{})
			c.put(&pgproto3.CommandComplete{CommandTag: []byte("BEGIN")})
			c.held = false
			return true
		}
	}
	return c.held
}

func (c *connection) answer(message pgproto3.FrontendMessage) error {
	switch m := message.(type) {
	case *pgproto3.Query:
		return c.simple(m.String)
	case *pgproto3.Parse:
		if err := c.fail(m.Query, atParse); err != nil {
			return c.stop(err)
		}
		c.texts[m.Name] = m.Query
		c.send(m.Query, &pgproto3.ParseComplete{})
	case *pgproto3.Bind:
		text := c.texts[m.PreparedStatement]
		if err := c.fail(text, atBind); err != nil {
			return c.stop(err)
		}
		c.portal = text
		c.send(text, &pgproto3.BindComplete{})
	case *pgproto3.Describe:
		text := c.portal
		if m.ObjectType == 'S' {
			text = c.texts[m.Name]
			types := make([]uint32, strings.Count(text, "$"))
			for i := range types {
				types[i] = 25
			}
			c.send(text, &pgproto3.ParameterDescription{ParameterOIDs: types})
		}
		if isQuery(text) {
			c.send(text, columns)
		} else {
			c.send(text, &pgproto3.NoData{})
		}
	case *pgproto3.Execute:
		if err := c.run(c.portal, false); err != nil {
			return c.stop(err)
		}
	case *pgproto3.Close:
		c.put(&pgproto3.CloseComplete{})
	case *pgproto3.Sync:
		c.skip = false
		c.ready()
	case *pgproto3.CopyData:
	case *pgproto3.CopyDone, *pgproto3.CopyFail:
		return c.endCopy()
	case *pgproto3.Terminate:
		return io.EOF
	}
	return nil
}

func (c *connection) simple(texts string) error {
	for text := range strings.SplitSeq(texts, ";") {
		if c.copyBegins(text) {
			return nil
		}
		err := c.fail(text, atParse)
		if err == nil {
			err = c.fail(text, atBind)
		}
		if err == nil {
			err = c.run(text, true)
		}
		if err != nil {
			if err := c.stop(err); err != nil {
				return err
			}
			c.skip = false // a simple query has its end
			break
		}
	}
	c.ready()
	return nil
}

var columns = &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("v"), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1}}}

func isQuery(text string) bool { return strings.Contains(text, "select") }

var tagged = regexp.MustCompile(`u\ds\d`)

// find returns the program's statement in a text, nil where it is none.
func (c *connection) find(text string) *statement {
	if st, ok := c.statements[tagged.FindString(text)]; ok {
		return &st
	}
	return nil
}

// fail returns the error with which a text fails at a step, nil where it does
// not.
func (c *connection) fail(text string, at failure) error {
	st := c.find(text)
	switch {
	case st == nil:
		return nil
	case c.status == 'E':
		return refusal("25P02")
	case st.fails == at:
		return refusal("22012")
	}
	return nil
}

type refusal string

func (r refusal) Error() string { return string(r) }

// stop tells an error, and that all up to Sync is passed over.
func (c *connection) stop(err error) error {
	var code refusal
	severity := "ERROR"
	if !errors.As(err, &code) {
		severity, code = "FATAL", "57P01"
	}
	c.send("error", &pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: string(code), Message: "refused"})
	c.flush() // as PostgreSQL does
	if severity == "FATAL" {
		return errFatal
	}
	if c.status == 'T' {
		c.status = 'E'
	}
	c.skip = true
	return nil
}

// run executes a text and answers with rows and a tag.
func (c *connection) run(text string, describe bool) error {
	st := c.find(text)
	if st == nil {
		return c.control(strings.TrimSpace(text))
	}
	switch st.fails {
	case atExecute:
		return refusal("22012")
	case fatally:
		return errFatal
	}
	if isQuery(text) {
		if describe {
			c.send(text, columns)
		}
		for i := range st.rows {
			c.send(text, &pgproto3.DataRow{Values: [][]byte{fmt.Append(nil, st.tag, i)}})
		}
	}
	if st.fails == afterRows {
		return refusal("22012")
	}
	c.note(st.tag)
	done := "DONE "
	if isQuery(text) {
		done = "SELECT " // with which a read-only transaction stays one
	}
	c.send(text, &pgproto3.CommandComplete{CommandTag: []byte(done + fmt.Sprint(st.rows))})
	return nil
}

// note keeps a tag for the end of the transaction.
func (c *connection) note(tag string) {
	c.work = append(c.work, tag)
	if c.status == 'I' {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.outside = append(c.outside, tag)
	}
}

// control executes a statement about the transaction.
func (c *connection) control(text string) error {
	word, rest, _ := strings.Cut(strings.ToLower(text), " ")
	tag := strings.ToUpper(word)
	if word == "commit" || word == "rollback" && rest == "" {
		switch c.takeEndFailure() {
		case endRefused:
			return refusal("XX000")
		case endFatal:
			return errFatal
		case endNoEnd:
			c.send(text, &pgproto3.CommandComplete{CommandTag: []byte(tag)})
			return nil
		}
	}
	switch {
	case word == "":
		c.put(&pgproto3.EmptyQueryResponse{})
		return nil
	case word == "begin":
		c.mu.Lock()
		unit := c.program.units[c.unit]
		c.mu.Unlock()
		if unit.refused {
			return refusal("0A000")
		}
		c.status = 'T'
	case word == "commit" && c.status == 'T':
		c.mu.Lock()
		for _, tag := range c.work {
			if tag[0] != ':' {
				c.stored = append(c.stored, tag)
			}
		}
		c.mu.Unlock()
		c.status, c.work = 'I', nil
	case word == "commit", word == "rollback" && rest == "":
		c.status, c.work, tag = 'I', nil, "ROLLBACK"
	case word == "rollback":
		name := rest[strings.LastIndexByte(rest, ' ')+1:]
		i := slices.Index(c.work, ":"+name)
		if i < 0 {
			return refusal("3B001")
		}
		c.status, c.work = 'T', c.work[:i+1]
	case c.status == 'E':
		return refusal("25P02")
	case word == "show":
		c.put(&pgproto3.DataRow{Values: [][]byte{[]byte("read committed")}})
	case word == "savepoint":
		c.work = append(c.work, ":"+rest)
	}
	c.send(text, &pgproto3.CommandComplete{CommandTag: []byte(tag)})
	return nil
}

// copyBegins asks for the rows of a COPY.
func (c *connection) copyBegins(text string) bool {
	st := c.find(text)
	if st == nil || !strings.HasPrefix(text, "copy") || c.status == 'E' || st.fails == atParse || st.fails == atBind {
		return false
	}
	c.copying = st
	c.send(text, &pgproto3.CopyInResponse{OverallFormat: 1, ColumnFormatCodes: []uint16{1}})
	c.flush()
	return true
}

func (c *connection) endCopy() error {
	st := c.copying
	if c.copying = nil; st == nil {
		return nil
	}
	var err error
	switch st.fails {
	case succeeds:
		c.note(st.tag)
		c.send("copy "+st.tag, &pgproto3.CommandComplete{CommandTag: []byte("COPY 1")})
	case fatally:
		err = c.stop(errFatal)
	default:
		err = c.stop(refusal("22012"))
	}
	if err != nil {
		return err
	}
	c.skip = false
	c.ready()
	return nil
}

// ready ends an answer. What comes after it is in the same pieces, or waits for
// the next unit.
func (c *connection) ready() {
	c.put(&pgproto3.ReadyForQuery{TxStatus: c.status})
	if c.status == 'I' {
		c.disturb("idle")
	}
	c.flush()
}

// send answers with a message that belongs to the text, perhaps with noise
// before it.
func (c *connection) send(text string, m pgproto3.BackendMessage) {
	c.disturb(fmt.Sprintf("%s %T", text, m))
	c.put(m)
}

// disturb sends the noise of a label, which is that of both runs.
func (c *connection) disturb(label string) {
	if c.sent == nil {
		c.sent = map[string]int{}
	}
	c.mu.Lock()
	unit := c.unit
	c.mu.Unlock()
	c.sent[label]++
	h := fnv.New32a()
	_, _ = fmt.Fprint(h, unit, label, c.sent[label]) // a hash takes everything
	n := c.program.noise[h.Sum32()%uint32(len(c.program.noise))]
	payload := strings.Repeat(string(rune(n.payload)), n.length)
	switch n.kind {
	case 'A':
		c.put(&pgproto3.NotificationResponse{PID: 1, Channel: label, Payload: payload})
	case 'N':
		c.put(&pgproto3.NoticeResponse{Severity: "NOTICE", Code: "00000", Message: label, Detail: payload})
	case 'S':
		c.put(&pgproto3.ParameterStatus{Name: "noise", Value: payload})
	}
}

func (c *connection) put(m pgproto3.BackendMessage) {
	c.out, _ = m.Encode(c.out) // it fails only for messages of a gigabyte
}

func (c *connection) flush() {
	_, _ = c.end.Write(c.out) // the client may be gone
	c.out = c.out[:0]
}
