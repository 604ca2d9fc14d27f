/**
 * The metric families of the control plane, all of them here. Names of the CA are Istio's (`citadel_server_*`), those of
 * discovery follow istiod's where one exists. Label values come from closed sets.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';

export class ControlMetrics {
  readonly registry = new Registry();
  // Certificate authority.
  readonly csrCount = this.#counter('citadel_server_csr_count', 'Certificate requests received.');
  readonly authenticationFailures = this.#counter(
    'citadel_server_authentication_failure_count',
    'Certificate requests refused because the caller was not authenticated or not authorised.',
  );
  readonly csrParsingErrors = this.#counter('citadel_server_csr_parsing_err_count', 'Requests that could not be read.');
  readonly identityErrors = this.#counter(
    'citadel_server_id_extraction_err_count',
    'Requests for something that is not an identity of this trust domain.',
  );
  readonly signErrors = this.#labelled('citadel_server_csr_sign_err_count', 'Requests that were not signed.', [
    'error',
  ]);
  readonly issued = this.#counter('citadel_server_success_cert_issuance_count', 'Certificates issued.');
  readonly rootExpiry = this.#gauge(
    'citadel_server_root_cert_expiry_timestamp',
    'When the signing root expires, seconds since the epoch.',
  );
  readonly rootExpirySeconds = this.#gauge(
    'citadel_server_root_cert_expiry_seconds',
    'Time until the signing root expires, seconds.',
  );
  readonly chainExpiry = this.#gauge(
    'citadel_server_cert_chain_expiry_timestamp',
    'When the first certificate of the signing chain expires, seconds since the epoch.',
  );
  readonly chainExpirySeconds = this.#gauge(
    'citadel_server_cert_chain_expiry_seconds',
    'Time until the first certificate of the signing chain expires, seconds.',
  );
  // Discovery.
  readonly connectedClients = this.#gauge('pilot_xds', 'Open discovery streams.');
  readonly pushes = this.#counter('pilot_xds_pushes', 'Changes of the served resources that were offered to clients.');
  readonly answers = this.#labelled('ambit_control_xds_answers', 'Answers of clients to responses.', [
    'type',
    'result',
  ]);
  readonly sentResources = this.#labelled('ambit_control_xds_resources_sent', 'Resources sent, removals included.', [
    'type',
  ]);
  readonly sentBytes = this.#labelled('ambit_control_xds_bytes_sent', 'Bytes of responses sent.', ['type']);
  readonly xdsRefusals = this.#labelled(
    'ambit_control_xds_refusals',
    'Streams that were refused or ended because of a limit, a time or a stop.',
    ['reason'],
  );
  readonly delivery = new Histogram({
    name: 'ambit_control_xds_delivery_seconds',
    help: 'From a change being published to its being sent to a client, once per response.',
    buckets: [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30],
    registers: [this.registry],
  });
  readonly clients = new Gauge({
    name: 'ambit_control_xds_clients',
    help: 'Discovery clients: those that have acknowledged everything, and those that have not.',
    labelNames: ['state'],
    registers: [this.registry],
  });
  readonly queues = new Gauge({
    name: 'ambit_control_xds_queue',
    help: 'Discovery streams that wait: for their turn to work, or for their first request to be read.',
    labelNames: ['queue'],
    registers: [this.registry],
  });
  // The gRPC port.
  readonly connections = new Gauge({
    name: 'ambit_control_connections',
    help: 'Connections to the gRPC port, by whether a call on them was authenticated.',
    labelNames: ['state'],
    registers: [this.registry],
  });
  readonly connectionRefusals = this.#labelled(
    'ambit_control_connections_refused',
    'Connections that were refused, or closed because they broke a limit.',
    ['reason'],
  );
  readonly resources = new Gauge({
    name: 'ambit_control_resources',
    help: 'Resources served.',
    labelNames: ['type'],
    registers: [this.registry],
  });
  readonly propagation = new Histogram({
    name: 'pilot_proxy_convergence_time',
    help: 'From a change in the source to its being offered to all clients, seconds.',
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3],
    registers: [this.registry],
  });
  readonly sourceKinds = this.#labelledGauge(
    'ambit_control_source_kind',
    '1 for the state of a kind at the API server; degraded: what is known of it may be old.',
    ['kind', 'state'],
  );
  readonly sourceObjects = this.#labelledGauge('ambit_control_source_objects', 'Objects known, by kind.', ['kind']);
  readonly clientsBehind = this.#gauge(
    'ambit_control_clients_behind',
    'Open discovery streams that have not acknowledged all there is.',
  );
  readonly unpublishedChanges = this.#gauge(
    'ambit_control_changes_waiting',
    'Changed objects that clients have not been told of.',
  );
  readonly webhookAnswers = this.#labelled(
    'ambit_control_webhook_answers',
    'Objects that the webhook was asked about.',
    ['outcome'],
  );
  // What the elected replica writes.
  readonly leading = this.#gauge('ambit_control_leader', '1 where this replica is the one that writes to the cluster.');
  readonly statusWrites = this.#counter('ambit_control_status_writes', 'Conditions written to objects.');
  readonly taskQueue = this.#labelledGauge(
    'ambit_control_task_queue',
    'Keys of work that wait, by task of the leader.',
    ['task'],
  );
  readonly taskFailing = this.#labelledGauge(
    'ambit_control_task_failing',
    'Keys of work that failed and are tried again, by task of the leader.',
    ['task'],
  );
  readonly sourceProblems = this.#gauge('ambit_control_source_problems', 'Objects of the source that are invalid now.');

  #counter(name: string, help: string): Counter {
    return new Counter({ name, help, registers: [this.registry] });
  }

  #labelled<const T extends string>(name: string, help: string, labelNames: readonly T[]): Counter<T> {
    return new Counter({ name, help, labelNames: [...labelNames], registers: [this.registry] });
  }

  #labelledGauge<const T extends string>(name: string, help: string, labelNames: readonly T[]): Gauge<T> {
    return new Gauge({ name, help, labelNames: [...labelNames], registers: [this.registry] });
  }

  #gauge(name: string, help: string): Gauge {
    return new Gauge({ name, help, registers: [this.registry] });
  }
}
