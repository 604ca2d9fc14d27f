/** api/gen is what scripts/generate-api makes of the .proto files: nobody edits it, nobody forgets it. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

const repository = join(import.meta.dirname, '../../..');

function filesBelow(folder: string): Map<string, string> {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = entries.map((entry) => join(entry.parentPath, entry.name)).sort();
  return new Map(paths.map((path) => [path.slice(folder.length), readFileSync(path, 'utf8')]));
}

test('the committed code is what the generator produces from the .proto files', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ambit-api-'));
  try {
    execFileSync('sh', [join(repository, 'scripts/generate-api'), folder], { stdio: 'pipe' });
    const expected = filesBelow(folder);
    assert.ok(expected.size >= 12, 'the generator wrote something');
    assert.deepEqual(filesBelow(join(repository, 'api/gen')), expected);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
