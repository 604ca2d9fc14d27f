/**
 * The pages of the agent: admin (loopback), metrics and readiness. Wires the routes to the `AdminSource`; what a page
 * contains is decided in the file named after it.
 */
import { AmbitError } from '../../core/errors.ts';
import { configDump } from './config-dump.ts';
import { type Answer, type HttpServer, json, openHttpServer, type Route, text } from './http.ts';
import { expose } from './metrics.ts';
import { nodeReport } from './node-report.ts';
import { processSamples, snapshotSamples } from './samples.ts';
import type { AdminPorts, AdminServers, AdminSource, LogLevel } from './source.ts';
import { why } from './why.ts';

const LOG_LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

/** Resolves when all three listen; rejects with SYSTEM_CALL (a port that is taken), and then none does. */
export async function startAdmin(source: AdminSource, ports: AdminPorts): Promise<AdminServers> {
  const opened: HttpServer[] = [];
  const open = async (port: number, loopbackOnly: boolean, routes: Record<string, Route>): Promise<number> => {
    const server = await openHttpServer({ port, loopbackOnly, routes });
    opened.push(server);
    return server.port;
  };
  const close = async (): Promise<void> => {
    await Promise.all(opened.map((server) => server.close()));
  };
  try {
    const metricsPage = get((_query, request) => metrics(source, request.headers.accept ?? ''));
    return {
      ports: {
        admin: await open(ports.admin, true, adminRoutes(source)),
        metrics: await open(ports.metrics, false, { '/metrics': metricsPage, '/stats/prometheus': metricsPage }),
        readiness: await open(ports.readiness, false, { '/healthz/ready': get(() => readiness(source)) }),
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function adminRoutes(source: AdminSource): Record<string, Route> {
  return {
    '/': get(index),
    '/config_dump': get(async () => json(await configDump(source))),
    '/connections': get(async () => json(await source.connections())),
    '/node': get(async (query) => json(await nodeReport(await source.nodeStatus(query.has('probe'))))),
    '/why': get((query) => whyPage(source, query)),
    '/logging': { method: 'POST', answer: (query) => logging(source, query) },
  };
}

function get(answer: Route['answer']): Route {
  return { method: 'GET', answer };
}

function index(): Answer {
  const rows = [
    ['config_dump', 'everything this agent knows: workloads, services, policies, certificates, pods (JSON)'],
    ['connections', 'live connections (JSON)'],
    ['node', 'this agent and its node: versions, limits in use, plugin, pods, certificates (JSON)'],
    ['why?from=namespace/name&to=host:port', 'what would happen to a connection, and why (JSON)'],
  ];
  const items = rows.map(([path, about]) => `<li><a href="/${path?.replace('&', '&amp;')}">/${path}</a> ${about}</li>`);
  const level = '<li>POST /logging, /logging?level=debug: shows or sets the log level</li>';
  const body = `<!doctype html><title>Ambit agent</title><h1>Ambit agent</h1><ul>${items.join('')}${level}</ul>\n`;
  return { status: 200, type: 'text/html; charset=utf-8', body };
}

async function metrics(source: AdminSource, accept: string): Promise<Answer> {
  const samples = [...snapshotSamples(await source.collectMetrics()), ...processSamples()];
  const openMetrics = /\bapplication\/openmetrics-text\b/.test(accept);
  return {
    status: 200,
    type: openMetrics ? 'application/openmetrics-text;charset=utf-8;version=1.0.0' : 'text/plain; charset=utf-8',
    body: await expose(samples),
  };
}

function readiness(source: AdminSource): Answer {
  const pending = source.readiness();
  return pending.length === 0 ? text(200, 'ready\n') : text(500, `not ready, pending: ${pending.join(', ')}\n`);
}

function whyPage(source: AdminSource, query: URLSearchParams): Answer {
  const [from, to] = [query.get('from'), query.get('to')];
  if (from === null || to === null)
    return text(400, 'usage: /why?from=<namespace>/<name>&to=<host or address>:<port>\n');
  const report = why(source.state, source.routeSettings, from, to);
  if (report instanceof AmbitError) return json({ error: report.code, message: report.message }, 404);
  return json(report);
}

function logging(source: AdminSource, query: URLSearchParams): Answer {
  const wanted = query.get('level');
  if (wanted === null && !query.has('reset')) return text(200, `current log level is ${source.logLevel()}\n`);
  const level = LOG_LEVELS.find((candidate) => candidate === (wanted ?? 'info'));
  if (level === undefined) return text(400, `usage: POST /logging?level=${LOG_LEVELS.join('|')} or /logging?reset\n`);
  source.setLogLevel(level);
  return text(200, `current log level is ${source.logLevel()}\n`);
}
