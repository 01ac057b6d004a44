-- name: AddAuthor :exec
INSERT INTO authors (name) VALUES (?);

-- name: AuthorID :one
SELECT id FROM authors WHERE name = ?;

-- name: AddBook :exec
INSERT INTO books (author_id, title) VALUES (?, ?);

-- name: Titles :many
SELECT title FROM books JOIN authors a ON a.id = author_id WHERE a.name = ? ORDER BY title;

-- name: CountBooks :one
SELECT count(*) FROM books;
