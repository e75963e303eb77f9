/** Routes of the balancer as a service: captures, events, leaving, and this API's description. */
import { Type } from '@sinclair/typebox';
import type { Control } from '../control.js';
import { CaptureQuery, ControlEvent, LeaveDocument } from '../documents.js';
import { RequestError } from '../errors.js';
import type { EventStreams } from '../event-streams.js';
import type { OpenStreams } from '../streams.js';
import { type Route, route } from './route.js';

const Records = Type.String({
  description: 'Records of src/wire/tap-record.ts, until one side ends',
});
const OpenApi = Type.Object({}, { additionalProperties: true, description: 'OpenAPI 3.1' });

export function serviceRoutes(
  control: Control,
  streams: OpenStreams,
  events: EventStreams,
  openApi: () => object,
): Route[] {
  return [
    route({
      method: 'GET',
      path: '/v1/events',
      id: 'streamEvents',
      needs: 'subscribe',
      tag: 'service',
      summary: 'State changes, changes by operators, and rates, as they happen',
      description:
        'Server-sent events. `event` is node, change or rates; `data` is the event as JSON. Rates come each second. A client that comes back with Last-Event-ID gets what it has missed, as far as the balancer remembers it. A comment comes each 15 s. At most 16 streams are open (503 beyond), and one whose client does not read is closed.',
      role: 'read-only',
      endless: true,
      errors: [503],
      answer: { schema: ControlEvent, type: 'text/event-stream', description: 'Events' },
      handle: ({ request, reply }) => events.open(request, reply),
    }),
    route({
      method: 'GET',
      path: '/v1/capture',
      id: 'capture',
      needs: 'capture',
      tag: 'service',
      summary: "The engine's frames, as they come",
      description: 'The frames have all that clients send, so the call needs the role admin.',
      role: 'admin',
      query: CaptureQuery,
      endless: true,
      errors: [409],
      answer: { schema: Records, type: 'application/octet-stream', description: 'Frames' },
      handle: async ({ query, request, reply }) => {
        const frames = await control.capture(query);
        if (frames === undefined) {
          throw new RequestError(409, 'BATON_IN_USE', 'another capture is running', {
            hint: 'end it first',
          });
        }
        const close = (): void => void frames.destroy();
        frames.once('close', streams.add({ caller: request.caller, close }));
        // The client may have gone meanwhile.
        if (request.socket.destroyed) frames.destroy();
        return reply.type('application/octet-stream').send(frames);
      },
    }),
    route({
      method: 'POST',
      path: '/v1/leave',
      id: 'leave',
      needs: 'leave',
      tag: 'service',
      summary: 'End the balancer, and leave everything in place for the next one',
      role: 'admin',
      local: true,
      answer: { schema: LeaveDocument, description: 'The balancer is leaving' },
      handle: () => ({ leaving: true }),
      // Only after the response has been sent: leaving closes this socket.
      after: () => control.leave(),
    }),
    route({
      method: 'GET',
      path: '/v1/openapi.json',
      id: 'getOpenApi',
      needs: 'stats',
      tag: 'service',
      summary: 'This description of the API',
      role: 'read-only',
      answer: { schema: OpenApi, description: 'The OpenAPI document' },
      handle: openApi,
    }),
  ];
}
