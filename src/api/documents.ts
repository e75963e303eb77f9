/** The documents of the API: one definition for the server, the client and scripts. */
export * from './documents/capture.js';
export * from './documents/changes.js';
export { ErrorDocument, METRICS_TYPE, SERVER_HEADER } from './documents/common.js';
export * from './documents/events.js';
export * from './documents/explain.js';
export * from './documents/nodes.js';
export * from './documents/objects.js';
export * from './documents/sessions.js';
export * from './documents/stats.js';
