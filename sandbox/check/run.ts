import type { Sandbox } from '../sandbox.ts';
import type { Screen } from '../screen.ts';

export async function runCheck(_sandbox: Sandbox, _options: { screen: Screen; json: boolean }): Promise<boolean> {
  return true;
}
