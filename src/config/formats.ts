/** What a validator must know to read the schemas of the config. */
import type { Ajv } from 'ajv';
import { parseDuration, parseListener, whyNotHost, whyNotNode, whyNotUnicast } from './values.js';

/** Adds our keywords and formats. Returns the same validator. */
export function taughtSchemas(ajv: Ajv): Ajv {
  ajv.addVocabulary(['expected', 'fallback']);
  ajv.addFormat('duration', (text: string) => parseDuration(text) !== undefined);
  ajv.addFormat('node', (text: string) => whyNotNode(text) === undefined);
  ajv.addFormat('ip-unicast', (text: string) => whyNotUnicast(text) === undefined);
  ajv.addFormat('ip-host', (text: string) => whyNotHost(text) === undefined);
  ajv.addFormat('listener', (text: string) => parseListener(text) !== undefined);
  return ajv;
}
