package sandbox

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/dbscope/dbscope/driver"
	"github.com/dbscope/dbscope/internal/ending"
)

// In production settings end with the transaction of their unit. Here they would
// outlive it, since a savepoint's release keeps them: so each unit has its own put
// back when it comes to use the connection after another one, or after something may
// have undone them.

// CanSet implements [driver.Setter].
func (f *frame) CanSet() error {
	s, can := f.Conn.(driver.Setter)
	if !can {
		return errors.New("the adapter has no settings that are local to a transaction")
	}
	return s.CanSet()
}

// original is a setting before units made it.
type original struct {
	driver.Setting
	first *frame // of the unit that has set it first
}

// Set implements [driver.Setter], after Begin, which has the connection still.
func (f *frame) Set(ctx context.Context, settings []driver.Setting) error {
	if err := f.remember(ctx, settings); err != nil {
		return err
	}
	f.settings, f.lane.inForce = settings, nil
	return f.inForce(ctx)
}

// remember asks what the settings were before units made them.
func (f *frame) remember(ctx context.Context, settings []driver.Setting) error {
	l := f.lane
	bounded := ending.New(ctx, endTimeout)
	defer bounded.Cancel()
	for _, s := range settings {
		if l.knows(s.Name) {
			continue
		}
		// The name is put into the statement in a form that can be nothing else.
		row, err := l.conn.FirstRow(bounded, "SELECT current_setting(convert_from(decode('"+
			hex.EncodeToString([]byte(s.Name))+"', 'hex'), 'UTF8'), true)")
		if err != nil {
			return err
		}
		l.box.mu.Lock()
		l.before = append(l.before, original{driver.Setting{Name: s.Name, Value: row[0]}, f})
		l.box.mu.Unlock()
	}
	return nil
}

func (l *lane) knows(name string) bool {
	l.box.mu.Lock()
	defer l.box.mu.Unlock()
	return slices.ContainsFunc(l.before, func(o original) bool { return o.Name == name })
}

// forget is for a frame that is undone, and its settings with it: perhaps since the
// server refused one of them. The caller holds mu.
func (l *lane) forget(f *frame) {
	l.before = slices.DeleteFunc(l.before, func(o original) bool { return o.first == f })
}

// inForce makes the frame's settings where they are not those of the connection: what
// other units have set goes back first, the last of it before the others, since a role
// may not be allowed to set the rest.
func (f *frame) inForce(ctx context.Context) error {
	l := f.lane
	if l.inForce == f {
		return nil
	}
	l.box.mu.Lock()
	var all []driver.Setting
	for _, o := range slices.Backward(l.before) {
		all = append(all, o.Setting)
	}
	l.box.mu.Unlock()
	if all = append(all, f.settings...); len(all) == 0 {
		return nil
	}
	bounded := ending.New(ctx, endTimeout)
	defer bounded.Cancel()
	err := f.Conn.(driver.Setter).Set(bounded, all)
	if err == nil {
		l.inForce = f
	}
	return err
}
