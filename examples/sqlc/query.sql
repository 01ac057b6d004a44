-- name: FillStock :exec
insert into stock (sku, quantity) values ($1, $2)
on conflict (sku) do update set quantity = excluded.quantity;

-- name: InsertOrder :one
insert into orders (customer) values ($1) returning id;

-- name: InsertLines :copyfrom
insert into order_lines (order_id, sku, quantity) values ($1, $2, $3);

-- name: TakeFromStock :batchexec
update stock set quantity = quantity - sqlc.arg(quantity) where sku = sqlc.arg(sku);

-- name: Stock :many
select * from stock order by sku;

-- name: CountOrders :one
select count(*) from orders;

-- name: CountLines :one
select count(*) from order_lines;
