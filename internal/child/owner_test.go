package child_test

import (
	"errors"
	"os"
	"testing"

	"github.com/dbscope/dbscope/internal/child"
)

func TestAMissingUserIsNamed(t *testing.T) {
	owner, err := child.FindOwner("dbscope-nobody")
	if os.Geteuid() != 0 {
		if owner != nil || err != nil {
			t.Errorf("without root, servers run as the user of the tests: got %v, %v", owner, err)
		}
		return
	}
	var missing *child.MissingError
	if !errors.As(err, &missing) || missing.Key != "user:dbscope-nobody" {
		t.Errorf("got %v", err)
	}
}
