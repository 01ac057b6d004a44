import { existsSync, statSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

export const repository = 'https://github.com/dbscope/dbscope'
export const root = fileURLToPath(new URL('../..', import.meta.url))
const docs = join(root, 'docs')

// linkToRepository makes links that work on GitHub work on the site: what is
// outside of docs is shown by GitHub, and README.md of a folder is its index.
export function linkToRepository({ tokens, env }) {
  for (const token of tokens.flatMap((t) => t.children ?? [])) {
    const href = token.type === 'link_open' ? token.attrGet('href') : null
    if (!href || /^([a-z]+:|#|\/)/.test(href)) continue
    const [path, anchor = ''] = href.split(/(?=#)/)
    const target = resolve(dirname(join(docs, env.relativePath)), path)
    if (target.startsWith(docs + '/')) {
      token.attrSet('href', href.replace(/README\.md(?=#|$)/, 'index.md'))
      continue
    }
    if (!existsSync(target)) throw new Error(`${env.relativePath} links to ${href}, which does not exist`)
    const kind = statSync(target).isDirectory() ? 'tree' : 'blob'
    token.attrSet('href', `${repository}/${kind}/main/${relative(root, target)}${anchor}`)
  }
}
