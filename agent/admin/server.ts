/**
 * Starts the three HTTP servers of the agent: admin pages, metrics, readiness.
 */
import { AmbitError } from '../../core/errors.ts';
import type { AdminPorts, AdminServers, AdminSource } from './source.ts';

/** Resolves when all three listen; throws SYSTEM_CALL (a port that is taken), and then none does. */
export async function startAdmin(_source: AdminSource, _ports: AdminPorts): Promise<AdminServers> {
  throw new AmbitError('USAGE', 'not built yet');
}
