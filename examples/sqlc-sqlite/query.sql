-- name: InsertOrder :one
insert into orders (id, customer, sku, quantity) values (?, ?, ?, ?) returning *;

-- name: TakeFromStock :execrows
update stock set quantity = quantity - sqlc.arg(quantity) where sku = sqlc.arg(sku) and quantity >= sqlc.arg(quantity);

-- name: ListOrders :many
select * from orders order by customer, id;
