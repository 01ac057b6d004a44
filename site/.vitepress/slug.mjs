// slugify makes of a heading the anchor that GitHub gives it, so that one link
// serves on the site and there.
export const slugify = (heading) =>
  heading.trim().toLowerCase().replace(/[^\p{L}\p{N}\p{M} _-]/gu, '').replace(/ /g, '-')
