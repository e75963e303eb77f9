/** Routes that show what the balancer does: stats, sessions, explain. */
import { Type } from '@sinclair/typebox';
import type { Control } from '../control.js';
import {
  ExplainDocument,
  ExplainQuery,
  METRICS_TYPE,
  SessionPage,
  SessionQuery,
  StatsDocument,
} from '../documents.js';
import { type Route, route } from './route.js';

const MetricsText = Type.String();

export function stateRoutes(control: Control): Route[] {
  return [
    route({
      method: 'GET',
      path: '/v1/stats',
      id: 'getStats',
      needs: 'stats',
      tag: 'state',
      summary: 'State and counters of the balancer',
      role: 'read-only',
      answer: { schema: StatsDocument, description: 'State and counters' },
      handle: () => control.stats(),
    }),
    route({
      method: 'GET',
      path: '/metrics',
      id: 'getMetrics',
      needs: 'metrics',
      tag: 'state',
      summary: 'Counters and gauges for Prometheus',
      description: 'The path has no version, because scrapers expect it so.',
      role: 'read-only',
      answer: {
        schema: MetricsText,
        type: METRICS_TYPE,
        description: 'The text format of Prometheus',
      },
      handle: async ({ reply }) => reply.type(METRICS_TYPE).send(await control.metrics()),
    }),
    route({
      method: 'GET',
      path: '/v1/sessions',
      id: 'listSessions',
      needs: 'sessions',
      tag: 'state',
      summary: 'A page of sessions',
      role: 'read-only',
      query: SessionQuery,
      answer: { schema: SessionPage, description: 'A page of sessions' },
      handle: ({ query }) => control.sessions(query.after, query.limit),
    }),
    route({
      method: 'GET',
      path: '/v1/explain',
      id: 'explain',
      needs: 'explain',
      tag: 'state',
      summary: 'What would happen to a request, and why',
      description: 'Nothing is sent, and no predictor moves on.',
      role: 'read-only',
      query: ExplainQuery,
      answer: { schema: ExplainDocument, description: 'What would happen' },
      handle: ({ query }) => control.explain(query),
    }),
  ];
}
