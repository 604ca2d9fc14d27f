/**
 * Structured logging (pino, JSON lines in Istio's shape: `level`, `time`, `scope`, `msg`). One root logger per process;
 * `logger(scope)` gives the child of a component. Messages are constant, particulars are fields. Secrets and raw peer
 * bytes are never fields. Access-log lines are written by the data plane itself, not here.
 */
import pino from 'pino';

export type Logger = pino.Logger;

const root = pino(
  {
    level: process.env.AMBIT_LOG_LEVEL ?? 'info',
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    redact: {
      paths: ['token', 'key', 'keyPem', 'privateKey', '*.token', '*.keyPem', '*.privateKey'],
      censor: '[redacted]',
    },
  },
  pino.destination({ fd: 2, sync: true }),
);

/** The logger of a component; `scope` is the folder or the protocol it speaks for. */
export function logger(scope: string): Logger {
  return root.child({ scope });
}

/** Changes the level of every logger that is created after and of the root. */
export function setLogLevel(level: pino.LevelWithSilent): void {
  root.level = level;
}
