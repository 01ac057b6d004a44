create table if not exists stock (
	sku      text primary key,
	quantity integer not null check (quantity >= 0)
);

create table if not exists orders (
	id       bigint generated always as identity primary key,
	customer text not null
);

create table if not exists order_lines (
	order_id bigint not null references orders,
	sku      text not null references stock,
	quantity integer not null check (quantity > 0)
);
