import { AmbitError } from '../core/errors.ts';

export class NetworkNamespace {
  static openPath(_path: string): NetworkNamespace {
    throw new AmbitError('USAGE', 'not there yet');
  }
  static openFd(_fd: number): NetworkNamespace {
    throw new AmbitError('USAGE', 'not there yet');
  }
  static current(): NetworkNamespace {
    throw new AmbitError('USAGE', 'not there yet');
  }
  readonly fd: number = -1;
  readonly inode: bigint = 0n;
  readonly device: bigint = 0n;
  run<T>(_synchronousWork: () => T): T {
    throw new AmbitError('USAGE', 'not there yet');
  }
  close(): void {}
}
