/** A virtual server as documents of the API show it. */
import type { VirtualServerDocument } from '../../api/documents.js';
import { formatAddress } from '../../wire/address.js';
import type { ServerSlot } from './farm.js';

/** What is known of it without asking engine threads. */
export function serverDocument(server: ServerSlot): Omit<VirtualServerDocument, 'active' | 'held'> {
  const { name, address, port, ports, transport, mode, protocol, predictor, retired } = server;
  return {
    name,
    address: formatAddress(address),
    port,
    ports: [...ports],
    transport,
    mode,
    ...(mode === 'handoff' ? { protocol } : {}),
    predictor,
    state: retired ? 'removed' : 'up',
  };
}
