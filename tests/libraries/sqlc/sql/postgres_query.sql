-- name: AddAuthor :exec
INSERT INTO authors (name) VALUES ($1);

-- name: AuthorID :one
SELECT id FROM authors WHERE name = $1;

-- name: AddBook :exec
INSERT INTO books (author_id, title) VALUES ($1, $2);

-- name: Titles :many
SELECT title FROM books JOIN authors a ON a.id = author_id WHERE a.name = $1 ORDER BY title;

-- name: CountBooks :one
SELECT count(*) FROM books;
