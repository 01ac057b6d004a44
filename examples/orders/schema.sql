-- The same on SQLite and PostgreSQL. A service that lives longer than an
-- example would use migrations.

create table if not exists stock (
	sku      text    primary key,
	quantity integer not null check (quantity >= 0)
);

create table if not exists orders (
	id        text      primary key, -- sorts by time, see newID
	customer  text      not null,
	sku       text      not null references stock (sku),
	quantity  integer   not null check (quantity > 0),
	status    text      not null check (status in ('placed', 'cancelled')),
	placed_at timestamp not null -- UTC
);

create table if not exists audit (
	id       text      primary key,
	order_id text      not null references orders (id),
	action   text      not null,
	at       timestamp not null -- UTC
);

create index if not exists audit_order on audit (order_id);

-- Something to sell.
insert into stock (sku, quantity) values ('tea', 1000000), ('coffee', 1000000), ('last-cup', 1)
on conflict do nothing;
