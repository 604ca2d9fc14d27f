/** For `assert.rejects`: an AmbitError with this code whose detail matches. */
import assert from 'node:assert/strict';
import { AmbitError } from '../../core/errors.ts';

export function refusal(code: string, text: RegExp): (thrown: unknown) => boolean {
  return (thrown) => {
    assert.ok(thrown instanceof AmbitError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    assert.match(thrown.message, text);
    return true;
  };
}
