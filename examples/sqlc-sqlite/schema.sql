create table if not exists stock (
	sku      text    not null primary key,
	quantity integer not null
);

create table if not exists orders (
	id       text    not null primary key,
	customer text    not null,
	sku      text    not null,
	quantity integer not null
);

insert into stock values ('tea', 1000), ('last-cup', 1) on conflict do nothing;
