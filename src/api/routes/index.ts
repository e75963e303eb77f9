/** All calls of the API. */
import type { Control } from '../control.js';
import type { ApiCounters } from '../counters.js';
import { EventStreams } from '../event-streams.js';
import { openApiDocument } from '../openapi.js';
import type { OpenStreams } from '../streams.js';
import { configRoutes } from './config.js';
import { objectRoutes } from './objects.js';
import type { Route } from './route.js';
import { serviceRoutes } from './service.js';
import { stateRoutes } from './state.js';

export interface RoutesOptions {
  /** A route exists only if the control has the function that it needs. */
  control: Partial<Control>;
  streams: OpenStreams;
  counters: ApiCounters;
  /** Interval of the comments in event streams, ms. */
  heartbeat?: number;
}

export function allRoutes({
  control: given,
  streams,
  counters,
  heartbeat,
}: RoutesOptions): Route[] {
  const control = given as Control;
  const events = new EventStreams(control, streams, counters, heartbeat);
  let document: object | undefined;
  const all: Route[] = [
    ...stateRoutes(control),
    ...objectRoutes(control),
    ...configRoutes(control),
    ...serviceRoutes(control, streams, events, () => {
      document ??= openApiDocument(routes);
      return document;
    }),
  ];
  const routes = all.filter(({ needs }) => given[needs] !== undefined);
  return routes;
}
