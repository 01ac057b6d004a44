import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitepress'
import { linkToRepository, repository } from './links.mjs'
import { pending, sidebar } from './pages.mjs'
import { slugify } from './slug.mjs'

export default defineConfig({
  title: 'dbscope',
  description: 'One database session for one unit of work, found by the context.Context',
  srcDir: '../docs',
  base: process.env.DOCS_BASE ?? '/',
  rewrites: { 'README.md': 'index.md', 'moving/README.md': 'moving/index.md' },
  ignoreDeadLinks: pending.map((file) => new RegExp(`/${file.replace('.md', '')}$`)),
  markdown: { anchor: { slugify }, config: (md) => md.core.ruler.push('repository-links', linkToRepository) },
  themeConfig: {
    search: { provider: 'local' },
    outline: [2, 3],
    nav: [
      { text: 'Start', link: '/getting-started' },
      { text: 'Move a service', link: '/moving/' },
      { text: 'Recipes', link: '/recipes' },
      { text: 'API', link: 'https://pkg.go.dev/github.com/dbscope/dbscope' },
    ],
    sidebar,
    socialLinks: [{ icon: 'github', link: repository }],
    editLink: { pattern: repository + '/edit/main/docs/:path', text: 'Edit this page on GitHub' },
  },
  // The pages are outside of this folder, where Vue is not found from by itself.
  vite: { resolve: { alias: { vue: fileURLToPath(new URL('../node_modules/vue', import.meta.url)) } } },
})
