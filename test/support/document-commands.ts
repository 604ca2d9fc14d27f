/** The commands of a page of the documentation, as a reader would run them, and what it says that they print. */

export interface CommandBlock {
  /** The nearest heading above, and which block below it this is. */
  readonly name: string;
  /** Where: on the reader's machine, or as root on a node. */
  readonly where: 'here' | 'node';
  readonly script: string;
  /** Lines of the block ```text that follows, if one does. */
  readonly expected: readonly string[];
}

/** Blocks ```sh and ```sh node, in order. Throws when a block is of a kind that nobody would run or compare. */
export function commandBlocks(page: string): CommandBlock[] {
  const blocks: { name: string; where: 'here' | 'node'; script: string; expected: string[] }[] = [];
  let heading = '';
  let count = 0;
  for (const match of page.matchAll(/^#+ (.+)$|^```(.*)\n([\s\S]*?)^```$/gm)) {
    const [, title, info = '', body = ''] = match;
    if (title !== undefined) {
      heading = title;
      count = 0;
    } else if (info === 'sh' || info === 'sh node') {
      count += 1;
      blocks.push({ name: `${heading} ${count}`, where: info === 'sh' ? 'here' : 'node', script: body, expected: [] });
    } else if (info === 'text') {
      const block = blocks.at(-1);
      if (block === undefined) throw new Error(`${heading}: output without commands`);
      block.expected.push(...body.split('\n').filter((line) => line.trim() !== ''));
    } else {
      throw new Error(`${heading}: a block of kind "${info}" is run by nobody`);
    }
  }
  return blocks;
}

/** Expected lines that the output does not have, in that order; `...` stands for anything. */
export function missingLines(expected: readonly string[], output: string): string[] {
  let rest = output.split('\n');
  return expected.filter((line) => {
    const pattern = new RegExp(
      `^${line
        .trim()
        .split('...')
        .map((part) => RegExp.escape(part))
        .join('.*')}$`,
    );
    const index = rest.findIndex((candidate) => pattern.test(candidate.trim()));
    if (index < 0) return true;
    rest = rest.slice(index + 1);
    return false;
  });
}
