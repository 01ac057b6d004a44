// Package settings has a [dbscope.Settings] whose answer a test puts into the context.
package settings

import (
	"context"
	"errors"

	"github.com/dbscope/dbscope"
)

type key struct{}

// As returns a context whose units have the settings, name and value in turn.
func As(ctx context.Context, settings ...string) context.Context {
	var all []dbscope.Setting
	for i := 0; i < len(settings); i += 2 {
		all = append(all, dbscope.Setting{Name: settings[i], Value: settings[i+1]})
	}
	return context.WithValue(ctx, key{}, all)
}

// ErrNobody is the answer for a context that is not one of [As].
var ErrNobody = errors.New("no tenant in the context")

// FromContext are the settings of the contexts of [As].
var FromContext = dbscope.Settings(func(ctx context.Context) ([]dbscope.Setting, error) {
	all, ok := ctx.Value(key{}).([]dbscope.Setting)
	if !ok {
		return nil, ErrNobody
	}
	return all, nil
})
