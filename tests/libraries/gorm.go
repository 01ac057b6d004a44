package libraries

import (
	"context"
	"database/sql"

	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

type gormAuthor struct {
	ID    int
	Name  string
	Books []gormBook `gorm:"foreignKey:AuthorID"`
}

// TableName is GORM's.
func (gormAuthor) TableName() string { return "authors" }

type gormBook struct {
	ID       int
	AuthorID int
	Title    string
}

// TableName is GORM's.
func (gormBook) TableName() string { return "books" }

type gormProgram struct{ db *gorm.DB }

// OpenGORM opens the program on GORM.
func OpenGORM(handle *sql.DB, dialect string) (Program, error) {
	dialector := map[string]gorm.Dialector{
		"postgres": postgres.New(postgres.Config{Conn: handle}),
		"mysql":    mysql.New(mysql.Config{Conn: handle}),
		"sqlite":   sqlite.New(sqlite.Config{Conn: handle}),
	}[dialect]
	db, err := gorm.Open(dialector, &gorm.Config{TranslateError: true, Logger: logger.Discard})
	return gormProgram{db}, err
}

func (p gormProgram) Add(ctx context.Context, author string, titles ...string) error {
	return p.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		a := gormAuthor{Name: author}
		if err := tx.Create(&a).Error; err != nil || len(titles) == 0 {
			return err
		}
		var books []gormBook
		for _, title := range titles {
			books = append(books, gormBook{AuthorID: a.ID, Title: title})
		}
		return tx.Create(books).Error
	})
}

func (p gormProgram) Titles(ctx context.Context, author string) (titles []string, err error) {
	var a gormAuthor
	inOrder := func(db *gorm.DB) *gorm.DB { return db.Order("title") }
	if err := p.db.WithContext(ctx).Preload("Books", inOrder).Where("name = ?", author).First(&a).Error; err != nil {
		return nil, err
	}
	for _, b := range a.Books {
		titles = append(titles, b.Title)
	}
	return titles, nil
}

func (p gormProgram) AddAll(ctx context.Context, author string, titles ...string) error {
	var a gormAuthor
	if err := p.db.WithContext(ctx).Where("name = ?", author).First(&a).Error; err != nil {
		return err
	}
	var books []gormBook
	for _, title := range titles {
		books = append(books, gormBook{AuthorID: a.ID, Title: title})
	}
	return p.db.WithContext(ctx).CreateInBatches(books, 2).Error
}

func (p gormProgram) Count(ctx context.Context) (int, error) {
	var n int64
	err := p.db.Session(&gorm.Session{Context: ctx, PrepareStmt: true}).Model(&gormBook{}).Count(&n).Error
	return int(n), err
}
