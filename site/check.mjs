// Checks every link and anchor of the built site, and of the repository's other
// Markdown files, without the network: what it does not check is other people's
// sites.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { repository, root } from './.vitepress/links.mjs'
import { pending } from './.vitepress/pages.mjs'
import { slugify } from './.vitepress/slug.mjs'

const dist = fileURLToPath(new URL('.vitepress/dist', import.meta.url))
const base = process.env.DOCS_BASE ?? '/'

// All that has anchors, by its path: pages of the site, and the other Markdown
// files, whose paths are those on GitHub.
const pages = new Map()
for (const file of readdirSync(dist, { recursive: true }).filter((f) => f.endsWith('.html'))) {
  pages.set(join(dist, file), parseHTML(readFileSync(join(dist, file), 'utf8')))
}
const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.md'], { cwd: root })
for (const file of listed.toString().trim().split('\n')) {
  if (file.startsWith('docs/') || !existsSync(join(root, file))) continue
  pages.set(join(root, file), parseMarkdown(readFileSync(join(root, file), 'utf8')))
}

let links = 0
let dead = 0
for (const [page, { hrefs }] of pages) {
  for (const href of hrefs) {
    const [path, anchor] = resolve(page, href)
    if (path === undefined) continue
    links++
    const target = path === '' ? page : path
    const there = existsSync(target)
    if (there && (!anchor || !pages.has(target) || pages.get(target).ids.has(anchor))) continue
    if (!there && [relative(dist, target).replace(/html$/, 'md'), relative(join(root, 'docs'), target)].some((p) => pending.includes(p))) continue
    console.error(`${relative(root, page)}: ${href}: ${there ? 'no such anchor' : 'no such page or file'}`)
    dead++
  }
}
console.log(`${links} links in ${pages.size} pages, ${dead} dead`)
process.exit(dead === 0 ? 0 : 1)

function parseHTML(html) {
  const attributes = (name) => [...html.matchAll(new RegExp(` ${name}="([^"]*)"`, 'g'))].map((m) => decodeURI(m[1].replaceAll('&amp;', '&')))
  return { ids: new Set(attributes('id')), hrefs: [...attributes('href'), ...attributes('src')] }
}

function parseMarkdown(text) {
  const prose = text.replace(/^```.*?^```/gms, '').replace(/`[^`\n]*`/g, (code) => code.replaceAll('](', ''))
  return {
    ids: new Set([...prose.matchAll(/^#+ (.*)/gm)].map((m) => slugify(m[1]))),
    hrefs: [...prose.matchAll(/\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"/g)].map((m) => m[1] ?? m[2]),
  }
}

// resolve returns the file that a link means, '' for the page itself, and the
// anchor in it; undefined for what is outside of the repository.
function resolve(page, href) {
  const onGitHub = href.match(new RegExp(`^${repository}/(?:blob|tree)/main/([^#]*)(?:#(.*))?$`))
  if (onGitHub) return [join(root, onGitHub[1]), onGitHub[2]]
  if (/^[a-z]+:/.test(href)) return []
  const [path, anchor] = href.split('#')
  if (path === '') return ['', anchor]
  if (page.startsWith(dist)) {
    const file = path.startsWith('/') ? join(dist, path.slice(base.length)) : join(dirname(page), path)
    return [existsSync(file) && statSync(file).isDirectory() ? join(file, 'index.html') : file, anchor]
  }
  const file = join(dirname(page), path)
  const inDocs = relative(join(root, 'docs'), file)
  if (inDocs.startsWith('..') || !file.endsWith('.md') || !existsSync(file)) return [file, anchor]
  return [join(dist, inDocs.replace(/README\.md$/, 'index.md').replace(/md$/, 'html')), anchor]
}
