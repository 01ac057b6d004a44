package wire

import (
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// message is one message of the protocol.
type message struct {
	kind  byte // 0 before the connection is set up
	name  string
	text  string // for the log
	about string // where [CutAt.Containing] is looked for
	raw   []byte // with its header; valid until the next read
}

var clientNames = map[byte]string{
	'B': "Bind", 'C': "Close", 'D': "Describe", 'E': "Execute", 'F': "FunctionCall", 'H': "Flush",
	'P': "Parse", 'Q': "Query", 'S': "Sync", 'X': "Terminate", 'c': "CopyDone", 'd': "CopyData",
	'f': "CopyFail", 'p': "PasswordMessage",
}

var serverNames = map[byte]string{
	'1': "ParseComplete", '2': "BindComplete", '3': "CloseComplete", 'A': "NotificationResponse",
	'C': "CommandComplete", 'D': "DataRow", 'E': "ErrorResponse", 'G': "CopyInResponse",
	'H': "CopyOutResponse", 'I': "EmptyQueryResponse", 'K': "BackendKeyData", 'N': "NoticeResponse",
	'R': "Authentication", 'S': "ParameterStatus", 'T': "RowDescription", 'V': "FunctionCallResponse",
	'W': "CopyBothResponse", 'Z': "ReadyForQuery", 'c': "CopyDone", 'd': "CopyData", 'n': "NoData",
	's': "PortalSuspended", 't': "ParameterDescription", 'v': "NegotiateProtocolVersion",
}

// startNames are the messages without a kind, by the number they begin with.
var startNames = map[uint32]string{
	cancelRequest: "CancelRequest", sslRequest: "SSLRequest", gssRequest: "GSSENCRequest",
}

const (
	startupMessage = "StartupMessage"

	cancelRequest = 80877102
	sslRequest    = 80877103
	gssRequest    = 80877104
)

func known(name string) bool {
	if name == startupMessage || name == startNames[cancelRequest] {
		return true
	}
	for _, names := range []map[byte]string{clientNames, serverNames} {
		for _, n := range names {
			if n == name {
				return true
			}
		}
	}
	return false
}

// statements remembers which statement a name stands for, on one connection.
type statements struct {
	prepared map[string]string
	portals  map[string]string
	batch    []string // since the last Sync
}

// describe fills in what a client's message is about. What cannot be decoded
// stays without a text: it is for the server to complain.
func (s *statements) describe(m *message, body []byte) {
	switch m.kind {
	case 'Q':
		var q pgproto3.Query
		if q.Decode(body) == nil {
			m.text = q.String
		}
	case 'P':
		var p pgproto3.Parse
		if p.Decode(body) == nil {
			m.text = p.Query
			s.prepared[p.Name] = p.Query
			s.batch = append(s.batch, p.Query)
		}
	case 'B':
		var b pgproto3.Bind
		if b.Decode(body) == nil {
			m.text = s.prepared[b.PreparedStatement]
			s.portals[b.DestinationPortal] = m.text
			s.batch = append(s.batch, m.text)
		}
	case 'D':
		var d pgproto3.Describe
		if d.Decode(body) == nil {
			m.text = s.named(d.ObjectType, d.Name)
		}
	case 'C':
		var c pgproto3.Close
		if c.Decode(body) == nil {
			m.text = s.named(c.ObjectType, c.Name)
		}
	case 'E':
		var e pgproto3.Execute
		if e.Decode(body) == nil {
			m.text = s.portals[e.Portal]
		}
	case 'S':
		m.about = strings.Join(s.batch, "\n")
		s.batch = nil
		return
	}
	m.about = m.text
}

func (s *statements) named(objectType byte, name string) string {
	if objectType == 'P' {
		return s.portals[name]
	}
	return s.prepared[name]
}

// describeAnswer fills in what a server's message says.
func describeAnswer(m *message, body []byte) {
	switch m.kind {
	case 'C':
		var c pgproto3.CommandComplete
		if c.Decode(body) == nil {
			m.text = string(c.CommandTag)
		}
	case 'E', 'N': // a NoticeResponse has the same fields
		var e pgproto3.ErrorResponse
		if e.Decode(body) == nil {
			m.text = e.Code + " " + e.Message
		}
	case 'S':
		var p pgproto3.ParameterStatus
		if p.Decode(body) == nil {
			m.text = p.Name + "=" + p.Value
		}
	case 'Z':
		m.text = string(body)
	}
	m.about = m.text
}
