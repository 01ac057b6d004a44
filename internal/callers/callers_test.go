package callers_test

import (
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dbscope/dbscope/internal/callers"
)

// tracer is a driver that notes from where it is called.
type tracer struct{ at *callers.Trace }

func (d tracer) Open(string) (sqldriver.Conn, error) {
	d.at.Take()
	return nil, errors.New("that was all")
}

func TestThePlaceIsTheApplicationsAndNotALibrarys(t *testing.T) {
	var at callers.Trace
	sql.Register("tracer", tracer{&at})
	db, err := sql.Open("tracer", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := db.PingContext(t.Context()); err == nil { // the line
		t.Fatal("it has a connection")
	}
	p := at.Place()
	if filepath.Base(p.File) != "callers_test.go" || !strings.HasSuffix(p.Function, "TestThePlaceIsTheApplicationsAndNotALibrarys") {
		t.Errorf("the place is %s", p)
	}
	if p.String() == "" || (callers.Place{}).String() != "" {
		t.Errorf("the place reads %q", p)
	}
}

func TestALibraryOfTheUsersIsNone(t *testing.T) {
	var at callers.Trace
	slices.SortFunc([]int{2, 1}, func(int, int) int { at.Take(); return 0 })
	if p := at.Place("github.com/dbscope/"); filepath.Base(p.File) != "callers_test.go" {
		t.Errorf("the place is %s", p)
	}
}

func TestWithoutATraceThereIsNoPlace(t *testing.T) {
	var at callers.Trace
	if p := at.Place(); p != (callers.Place{}) {
		t.Errorf("the place is %s", p)
	}
}
