// Package service knows of its store only an interface.
package service

import (
	"context"

	"golang.org/x/crypto/bcrypt"

	"shop/sqlc"
)

type server struct{ store sqlc.Querier }

func (s *server) login(ctx context.Context, name, password string) error {
	hash, err := s.store.GetUser(ctx, name)
	if err != nil {
		return err
	}
	if err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)); err != nil { // want `bcrypt.CompareHashAndPassword runs while a transaction is open`
		return err
	}
	go s.store.CreateSession(ctx, name) // want `another goroutine uses the scope of ctx`
	return s.store.CreateSession(ctx, name)
}

// frameworkContext is a context as that of gin is one.
type frameworkContext struct {
	context.Context
	password string
}

func (s *server) handle(c *frameworkContext) error {
	hash, err := s.store.GetUser(c, "tea")
	if err != nil {
		return err
	}
	if err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(c.password)); err != nil { // want `bcrypt.CompareHashAndPassword runs while a transaction is open`
		return err
	}
	return s.store.CreateSession(c, "tea")
}
