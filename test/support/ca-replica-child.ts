/**
 * A replica's CA as a process of its own: `<kubeconfig> <namespace>`. Opens the store that the cluster has, issues a
 * certificate, begins a rotation where a third argument says so, prints which root signs and everything that it would
 * show of itself (inspected and as JSON), then ends.
 */
import { generateKeyPairSync } from 'node:crypto';
import { inspect } from 'node:util';
import { CertificateAuthority } from '../../control/ca/authority.ts';
import { findRootStore } from '../../control/ca/find-root-store.ts';
import { ROTATION_POLICY } from '../../control/ca/rotation.ts';
import { formatSpiffeId } from '../../core/spiffe.ts';
import { KubeClient } from '../../kube/client.ts';

const [kubeconfig, namespace = '', rotate] = process.argv.slice(2);
const client = KubeClient.open({ kubeconfig, userAgent: 'ambit-test' });
const store = await findRootStore(client, { namespace, trustDomain: 'cluster.local' });
const authority = new CertificateAuthority(store, ROTATION_POLICY);
await authority.open();
const identity = formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'a', serviceAccount: 'b' });
const { chain } = authority.issueWorkload(
  identity,
  generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey,
  60_000,
);
if (rotate !== undefined) await authority.rotate();
const dump = [authority, store, store.material, store.rotating?.roots];
process.stdout.write(`signer ${authority.signingRoot().id}\n${chain.join('')}`);
process.stdout.write(`${JSON.stringify(dump)}\n${inspect(dump, { depth: 10, showHidden: true })}\n`);
await authority.close();
client.close();
