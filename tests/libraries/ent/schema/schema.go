// Package schema is what the code of ent is generated from:
//
//	go run entgo.io/ent/cmd/ent generate --target ./ent ./ent/schema
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
)

// Author has books.
type Author struct{ ent.Schema }

// Fields implements [ent.Interface].
func (Author) Fields() []ent.Field { return []ent.Field{field.String("name").Unique()} }

// Edges implements [ent.Interface].
func (Author) Edges() []ent.Edge { return []ent.Edge{edge.To("books", Book.Type)} }

// Book is one of an author.
type Book struct{ ent.Schema }

// Fields implements [ent.Interface].
func (Book) Fields() []ent.Field {
	return []ent.Field{field.Int("author_id"), field.String("title").Unique()}
}

// Edges implements [ent.Interface].
func (Book) Edges() []ent.Edge {
	return []ent.Edge{edge.From("author", Author.Type).Ref("books").Field("author_id").Unique().Required()}
}
