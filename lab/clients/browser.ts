/** Pages in headless Chromium on a host of a farm. */
import { mkdtempSync, rmSync } from 'node:fs';
import type { Host } from '../farm/host.js';
import { findCommand } from '../farm/needs.js';
import { PATIENCE_MS } from '../patience.js';

const CHROMIUM = 'chromium-headless-shell';

/** Why no test can load a page, also over TLS; false when it can. For tap's `skip`. */
export function whyNoBrowser(): string | false {
  const missing = [CHROMIUM, 'openssl'].find((command) => !findCommand(command));
  return missing !== undefined && `needs ${missing}`;
}

/**
 * Loads a page, waits until its parts are loaded, and returns the document as it is then.
 * @param names addresses of host names, because the farm has no resolver
 */
export async function loadPage(
  host: Host,
  url: string,
  names: Readonly<Record<string, string>>,
): Promise<string> {
  const profile = mkdtempSync('/tmp/baton-browser-');
  const rules = Object.entries(names).map(([name, address]) => `MAP ${name} ${address}`);
  try {
    const { stdout } = await host.run(
      CHROMIUM,
      [
        // The tests run as root, which the sandbox refuses.
        '--no-sandbox',
        '--disable-gpu',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        // The nodes' certificates are their own issuers.
        '--ignore-certificate-errors',
        `--host-resolver-rules=${rules.join()}`,
        `--user-data-dir=${profile}`,
        '--dump-dom',
        url,
      ],
      { timeoutMs: PATIENCE_MS },
    );
    return stdout;
  } finally {
    rmSync(profile, { recursive: true, force: true });
  }
}

/**
 * A page that loads its parts one after another, and says which of them have arrived: paths that
 * end in .js are scripts that call `say`, all others images.
 */
export function pageOf(parts: readonly string[]): string {
  return `<!doctype html><title>page</title><link rel="icon" href="data:,"><p id="said"></p>
<script>
function say(text) { document.getElementById('said').append(text + ';'); }
function load([part, ...rest]) {
  if (part === undefined) return say('done');
  const element = document.createElement(part.endsWith('.js') ? 'script' : 'img');
  element.onload = () => { if (element.naturalWidth) say(part); load(rest); };
  element.onerror = () => { say(part + ' failed'); load(rest); };
  element.src = part;
  document.body.append(element);
}
addEventListener('DOMContentLoaded', () => load(${JSON.stringify(parts)}));
</script>
`;
}

/** What a loaded page of `pageOf` has said. */
export function saidBy(document: string): string {
  return /<p id="said">(.*?)<\/p>/s.exec(document)?.[1] ?? document;
}

/** An image of one pixel. */
export const IMAGE = Buffer.from(
  'R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7',
  'base64',
);
