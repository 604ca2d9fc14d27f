/** No mesh: clients connect to the server itself. The ceiling of every measurement. */
import type { Subject } from './subject.ts';

export const direct: Subject = {
  name: 'no mesh',
  about: 'client and server connected directly',
  start: async (world) => ({
    address: (port) => ({ ip: world.serverAddress, port }),
    proxies: [],
    stop: async () => {},
  }),
};
