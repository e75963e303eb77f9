/** Routes of nodes, virtual servers and resources. */
import { Type } from '@sinclair/typebox';
import type { Change, Control } from '../control.js';
import { closed } from '../documents/common.js';
import {
  ChangeReport,
  NodeBody,
  NodeDocument,
  NodePatch,
  NodesDocument,
  RemoveServerQuery,
  ResourceBody,
  ResourceKey,
  ResourcePage,
  ResourcesQuery,
  VirtualServerBody,
  VirtualServerDocument,
  VirtualServersDocument,
} from '../documents.js';
import { RequestError } from '../errors.js';
import { type Route, route } from './route.js';

const Named = (what: string) =>
  Type.Object({ name: Type.String({ description: `Name of the ${what}` }) }, closed);
const NodeName = Named('node');
const ServerName = Named('virtual server');

const changed = { schema: ChangeReport, description: 'The change is in force' } as const;
const added = { ...changed, status: 201 } as const;

export function objectRoutes(control: Control): Route[] {
  return [...nodeRoutes(control), ...serverRoutes(control), ...resourceRoutes(control)];
}

function nodeRoutes(control: Control): Route[] {
  return [
    route({
      method: 'GET',
      path: '/v1/nodes',
      id: 'listNodes',
      needs: 'nodes',
      tag: 'objects',
      summary: 'All nodes',
      role: 'read-only',
      answer: { schema: NodesDocument, description: 'All nodes, in the order of the config' },
      handle: () => control.nodes(),
    }),
    route({
      method: 'POST',
      path: '/v1/nodes',
      id: 'addNode',
      needs: 'change',
      tag: 'objects',
      summary: 'Add a node',
      description: 'The node gets sessions as soon as a resource names it as a holder.',
      role: 'admin',
      body: NodeBody,
      errors: [409],
      answer: added,
      handle: ({ body, actor }) => control.change({ kind: 'add-node', node: body }, actor),
    }),
    route({
      method: 'GET',
      path: '/v1/nodes/:name',
      id: 'getNode',
      needs: 'node',
      tag: 'objects',
      summary: 'One node',
      role: 'read-only',
      params: NodeName,
      errors: [404],
      answer: { schema: NodeDocument, description: 'The node' },
      handle: ({ params }) => control.node(params.name),
    }),
    route({
      method: 'PATCH',
      path: '/v1/nodes/:name',
      id: 'changeNode',
      needs: 'change',
      tag: 'objects',
      summary: 'Set the state or the weight of a node',
      description:
        'A call sets the state, with a reason if there is one, or the weight; not both at once, because each change is complete in itself.',
      role: 'admin',
      params: NodeName,
      body: NodePatch,
      errors: [404, 409],
      answer: changed,
      handle: ({ params, body, actor }) => control.change(nodeChange(params.name, body), actor),
    }),
    route({
      method: 'DELETE',
      path: '/v1/nodes/:name',
      id: 'removeNode',
      needs: 'change',
      tag: 'objects',
      summary: 'Remove a node',
      description: 'Its sessions go on until they end. A node that a resource names stays: 409.',
      role: 'admin',
      params: NodeName,
      errors: [404, 409],
      answer: changed,
      handle: ({ params, actor }) =>
        control.change({ kind: 'remove-node', node: params.name }, actor),
    }),
  ];
}

function nodeChange(node: string, { state, weight, reason }: NodePatch): Change {
  if (weight !== undefined && (state !== undefined || reason !== undefined)) {
    throw new RequestError(400, 'BATON_REQUEST', 'has both a state and a weight', {
      where: 'body',
      hint: 'set them by two calls',
    });
  }
  if (weight !== undefined) return { kind: 'weight', node, weight };
  if (state === undefined) {
    throw new RequestError(400, 'BATON_REQUEST', 'is given without a state', {
      where: 'body: reason',
    });
  }
  return { kind: 'node-state', node, state, ...(reason === undefined ? {} : { reason }) };
}

function serverRoutes(control: Control): Route[] {
  return [
    route({
      method: 'GET',
      path: '/v1/virtual-servers',
      id: 'listVirtualServers',
      needs: 'virtualServers',
      tag: 'objects',
      summary: 'All virtual servers',
      role: 'read-only',
      answer: { schema: VirtualServersDocument, description: 'All virtual servers' },
      handle: () => control.virtualServers(),
    }),
    route({
      method: 'POST',
      path: '/v1/virtual-servers',
      id: 'addVirtualServer',
      needs: 'change',
      tag: 'objects',
      summary: 'Add a virtual server',
      role: 'admin',
      body: VirtualServerBody,
      errors: [409],
      answer: added,
      handle: ({ body, actor }) =>
        control.change({ kind: 'add-virtual-server', virtualServer: body }, actor),
    }),
    route({
      method: 'GET',
      path: '/v1/virtual-servers/:name',
      id: 'getVirtualServer',
      needs: 'virtualServer',
      tag: 'objects',
      summary: 'One virtual server',
      role: 'read-only',
      params: ServerName,
      errors: [404],
      answer: { schema: VirtualServerDocument, description: 'The virtual server' },
      handle: ({ params }) => control.virtualServer(params.name),
    }),
    route({
      method: 'DELETE',
      path: '/v1/virtual-servers/:name',
      id: 'removeVirtualServer',
      needs: 'change',
      tag: 'objects',
      summary: 'Remove a virtual server',
      description:
        'Its sessions go on until they end, unless the query says otherwise. The last virtual server stays: 409.',
      role: 'admin',
      params: ServerName,
      query: RemoveServerQuery,
      errors: [404, 409],
      answer: changed,
      handle: ({ params, query, actor }) =>
        control.change(
          {
            kind: 'remove-virtual-server',
            virtualServer: params.name,
            ...(query.sessions === 'end' ? { endSessions: true } : {}),
          },
          actor,
        ),
    }),
  ];
}

function resourceRoutes(control: Control): Route[] {
  return [
    route({
      method: 'GET',
      path: '/v1/resources',
      id: 'listResources',
      needs: 'resources',
      tag: 'objects',
      summary: 'A page of resources',
      role: 'read-only',
      query: ResourcesQuery,
      answer: { schema: ResourcePage, description: 'A page of resources' },
      handle: ({ query }) => control.resources(query.after, query.limit),
    }),
    route({
      method: 'POST',
      path: '/v1/resources',
      id: 'addResource',
      needs: 'change',
      tag: 'objects',
      summary: 'Add a resource, or holders to one',
      description:
        'Where there is a resource of this host and path, its holders are those that it had and those of this call.',
      role: 'admin',
      body: ResourceBody,
      errors: [409],
      answer: added,
      handle: ({ body, actor }) => control.change({ kind: 'add-resource', resource: body }, actor),
    }),
    route({
      method: 'DELETE',
      path: '/v1/resources',
      id: 'removeResource',
      needs: 'change',
      tag: 'objects',
      summary: 'Remove a resource, or one of its holders',
      description: 'Sessions go on. The last resource, and the last holder of one, stay: 409.',
      role: 'admin',
      query: ResourceKey,
      errors: [404, 409],
      answer: changed,
      handle: ({ query: { alpn, ...query }, actor }) => {
        const protocols = alpn === undefined ? {} : { alpn: alpn.split(',') };
        return control.change({ kind: 'remove-resource', ...query, ...protocols }, actor);
      },
    }),
  ];
}
