/**
 * Writes docs/counters.md from the declarations of the counters. Run it from the source directory
 * after changing a declaration:
 *
 *     node dist/scripts/counter-docs.js
 */
import { writeFileSync } from 'node:fs';
import { renderCounterDocs } from '../src/cli/glossary.js';

writeFileSync('docs/counters.md', renderCounterDocs());
