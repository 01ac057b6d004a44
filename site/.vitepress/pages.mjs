import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './links.mjs'

// The navigation: what people want to do, and the pages that help with it, each
// with the few words that stand for it. README.md is the first page of the site.
const sections = [
  {
    text: 'Start',
    pages: [
      ['why.md', 'Why dbscope'],
      ['getting-started.md', 'Getting started'],
      ['units.md', 'Units of work'],
      ['recipes.md', 'Recipes'],
      ['comparison.md', 'Compared with others'],
    ],
  },
  {
    text: 'Move a service',
    pages: [
      ['moving/README.md', 'Where to begin'],
      ['moving/handles.md', 'From *sql.Tx and pgx.Tx'],
      ['moving/sqlc.md', 'From sqlc'],
      ['moving/orms.md', 'From GORM, bun and ent'],
      ['moving/avito.md', 'From go-transaction-manager'],
      ['moving/python.md', 'From the Python library'],
      ['adopt.md', 'Adopt a transaction'],
      ['libraries.md', 'Libraries, ORMs, migrations'],
    ],
  },
  {
    text: 'Work in a unit',
    pages: [
      ['atomic.md', 'Atomic and Join'],
      ['hooks.md', 'Hooks'],
      ['concurrency.md', 'Work side by side'],
      ['retry.md', 'Running a unit again'],
      ['outcomes.md', 'What became of a unit'],
      ['unscoped.md', 'Outside of units'],
    ],
  },
  {
    text: 'Where units begin',
    pages: [
      ['middleware.md', 'HTTP, gRPC, Connect'],
      ['idempotency.md', 'Requests done once'],
      ['jobs.md', 'Jobs and messages'],
      ['river.md', 'river'],
      ['orm-and-river.md', 'An ORM and river'],
      ['watermill.md', 'watermill'],
    ],
  },
  {
    text: 'Databases',
    pages: [
      ['connections.md', 'Connections'],
      ['tenants.md', 'Tenants and settings'],
      ['hosts.md', 'Hosts and replicas'],
      ['distributed.md', 'Distributed databases'],
      ['mysql.md', 'MariaDB and MySQL'],
    ],
  },
  {
    text: 'Run it',
    pages: [
      ['testing.md', 'Tests'],
      ['vet.md', 'dbscopevet'],
      ['observe.md', 'Logs, traces, metrics'],
      ['performance.md', 'What it costs'],
      ['roundtrips.md', 'Round trips'],
      ['security.md', 'Security'],
    ],
  },
  {
    text: 'Behind it',
    pages: [
      ['reliability.md', 'How it is tested'],
      ['design.md', 'Design'],
    ],
  },
]

const docs = join(root, 'docs')
const places = sections.flatMap(({ pages }) => pages.map(([file]) => file))

const twice = places.find((file, i) => places.indexOf(file) < i)
if (twice) throw new Error(`docs/${twice} has two places in the navigation`)

for (const file of readdirSync(docs, { recursive: true })) {
  if (file.endsWith('.md') && file !== 'README.md' && !places.includes(file)) {
    throw new Error(`docs/${file} has no place in the navigation: add it to site/.vitepress/pages.mjs`)
  }
}

// Pages that have a place and are not written yet: links to them are no mistake.
export const pending = places.filter((file) => !existsSync(join(docs, file)))

export const sidebar = sections.map(({ text, pages }) => ({
  text,
  items: pages
    .filter(([file]) => !pending.includes(file))
    .map(([file, text]) => ({ text, link: '/' + file.replace(/(README)?\.md$/, '') })),
}))
