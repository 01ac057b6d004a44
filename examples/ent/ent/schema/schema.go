// Package schema is what ent makes its code of.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"
)

// Order is an order of some pieces of one article.
type Order struct{ ent.Schema }

// Fields implements [ent.Interface].
func (Order) Fields() []ent.Field {
	return []ent.Field{field.String("id"), field.String("customer"), field.String("sku"), field.Int("quantity")}
}

// Article is one that the shop sells; its ID is the sku.
type Article struct{ ent.Schema }

// Fields implements [ent.Interface].
func (Article) Fields() []ent.Field {
	return []ent.Field{field.String("id").StorageKey("sku"), field.Int("quantity")}
}
