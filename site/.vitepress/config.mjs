import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitepress'
import { codeThatScrolls } from './code.mjs'
import { linkToRepository, repository } from './links.mjs'
import { pending, sidebar } from './pages.mjs'
import { slugify } from './slug.mjs'

// Brackets around a dot: one unit of work, and what is in it.
const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" fill="none" stroke="#3451b2" stroke-width="4">
  <path d="M10 4H4v24h6M22 4h6v24h-6"/><circle cx="16" cy="16" r="4" fill="#3451b2" stroke="none"/></svg>`

export default defineConfig({
  title: 'dbscope',
  description: 'One database session for one unit of work, found by the context.Context',
  srcDir: '../docs',
  base: process.env.DOCS_BASE ?? '/',
  rewrites: { 'README.md': 'index.md', 'moving/README.md': 'moving/index.md' },
  ignoreDeadLinks: pending.map((file) => new RegExp(`/${file.replace('.md', '')}$`)),
  head: [['link', { rel: 'icon', href: 'data:image/svg+xml,' + encodeURIComponent(icon) }]],
  markdown: {
    anchor: { slugify },
    theme: { light: 'github-light-high-contrast', dark: 'github-dark-high-contrast' },
    config: (md) => {
      md.core.ruler.push('repository-links', linkToRepository)
      md.core.ruler.push('code-that-scrolls', codeThatScrolls)
    },
  },
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
