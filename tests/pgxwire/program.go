package pgxwire

import (
	"fmt"

	"github.com/jackc/pgx/v5"
)

// program is what a run does, and what the server does meanwhile.
type program struct {
	mode  pgx.QueryExecMode
	units []unit
	noise [16]noise // that comes before a message is looked up by its label
	cuts  []int     // sizes of pieces, in turn; none is whole writes
}

type unit struct {
	statements []statement
	commit     bool
	refused    bool // the server refuses its BEGIN
	readOnly   bool
	execCommit bool // its last statement, where it can, takes COMMIT with it
}

type statement struct {
	tag    string
	kind   kind
	nested bool // in a nested transaction, whose failure the unit tolerates
	fails  failure
	rows   int
}

type kind uint8

const (
	simpleExec kind = iota
	exec
	query
	queryRow
	leaveRows
	batch
	copyFrom
	prepare
	emptyBatch
	badBatch // which pgx refuses to send
	kinds
)

// failure is where a statement fails.
type failure uint8

const (
	succeeds failure = iota
	atParse
	atBind
	atExecute // before its first row
	afterRows
	fatally // and the server closes the connection
	failures
)

// noise is a message that the server may send at any time.
type noise struct {
	kind    byte // 'A', 'N', 'S', or 0 for none
	payload byte
	length  int
}

// source are the bytes that a program is made of, and then zeros.
type source []byte

func (s *source) next(n int) int {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return int(b) % n
}

// modes are all that pgx has.
var modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

func decode(bytes []byte) program {
	s := source(bytes)
	p := program{mode: modes[s.next(len(modes))]}
	for range s.next(4) {
		p.cuts = append(p.cuts, 1+s.next(40))
	}
	for i := range p.noise {
		p.noise[i] = noise{
			kind: []byte{0, 'A', 'N', 'S'}[s.next(4)],
			// Each byte that a message can begin with is a good payload.
			payload: "123ACDEGHIKNRSTVWZcdnstv"[s.next(24)], length: 1 + s.next(50),
		}
	}
	for u := range 1 + s.next(3) {
		bits := s.next(64)
		next := unit{commit: bits&1 == 0, refused: bits&14 == 14, readOnly: bits&48 == 16, execCommit: bits&32 != 0}
		for i := range s.next(4) {
			bits := s.next(256)
			next.statements = append(next.statements, statement{
				tag: fmt.Sprintf("u%ds%d", u, i), kind: kind(bits % int(kinds)), nested: bits > 180, //nolint:gosec // small
				fails: failure(max(0, s.next(2*int(failures))-int(failures)+1) % int(failures)), rows: s.next(4), //nolint:gosec // small
			})
		}
		p.units = append(p.units, next)
	}
	return p
}

// text returns the statement's SQL, in which the server finds the tag.
func (s statement) text(arg string) string {
	switch s.kind {
	case simpleExec, exec, prepare:
		return "insert /*" + s.tag + "*/ " + arg
	case copyFrom:
		return s.tag // the table's name
	default:
		return "select /*" + s.tag + "*/ " + arg
	}
}
