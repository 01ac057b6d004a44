// codeThatScrolls makes an indented block of commands what a fenced one is: a block
// that is scrolled by itself on a small screen, and has a button to copy it.
export function codeThatScrolls({ tokens }) {
  for (const token of tokens) {
    if (token.type !== 'code_block') continue
    token.type = 'fence'
    token.tag = 'code'
    token.info = 'sh'
  }
}
