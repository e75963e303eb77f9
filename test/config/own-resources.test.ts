/** Virtual servers with resources of their own. */
import t from 'tap';
import { parse } from 'yaml';
import { allResources } from '../../src/config/data.js';
import { addResource, removeNode, removeResource } from '../../src/config/edit.js';
import { loadBalancerConfig, loadBalancerFile } from '../../src/config/load.js';
import { renderConfig } from '../../src/config/render.js';
import { Directory } from '../../src/directory/directory.js';
import { directoryImage, scopeOf } from '../../src/directory/directory-image.js';
import { changed, FILE, problems } from './fixture.js';

const PORT = '    port: 80\n';
const FILMS = `  - name: films
    address: 10.99.0.101
    port: 80
    resources:
      - path: /
        nodes: [n2]   # all of it
      - host: www.example.org
        path: /a/
        nodes: [n1]
`;
const OWN = changed(PORT, `${PORT}${FILMS}`);

const latin1 = (text: string): Uint8Array => Buffer.from(text, 'latin1');

t.test('each virtual server has its own directory', async (t) => {
  t.same(problems(loadBalancerConfig, OWN), []);
  const config = loadBalancerConfig(FILE);
  const image = directoryImage(config.resources);
  const directory = new Directory(image);
  const [www, films] = config.virtualServers;
  const found = (server: typeof www, host: string, path: string) => {
    const scope = scopeOf(image, server!);
    const index = directory.find(latin1(host), host.length, latin1(path), path.length, scope);
    return config.resources[index];
  };
  t.equal(found(films, '', '/anything')?.virtualServer, 'films');
  t.match(found(films, 'www.example.org', '/a/b'), { host: 'www.example.org', path: '/a/' });
  t.match(found(films, 'other.example.org', '/a/b'), { path: '/', virtualServer: 'films' });
  for (const [host, path] of [
    ['', '/'],
    ['www.example.org', '/a/b'],
  ] as const)
    t.equal(found(www, host, path)?.virtualServer, undefined, 'never those of another');
  const gone = { name: 'gone', ownResources: true };
  t.equal(directory.find(latin1(''), 0, latin1('/'), 1, scopeOf(image, gone)), -1, 'nor of none');
});

t.test('what cannot work is refused with line and reason', async (t) => {
  const own = (text: string, by: string): string =>
    problems(loadBalancerConfig, changed(text, by, OWN)).join('\n');
  const list = 'virtualServers[1].resources';
  t.match(own('nodes: [n2]   #', 'nodes: [n9]   #'), `${list}[0].nodes[0]: is "n9", but no node`);
  t.match(
    own('host: www.example.org\n        path: /a/', 'path: /'),
    `${list}[1].path: has the same host and path`,
  );
  t.match(
    own(
      '    resources:\n      - path: /\n',
      '    protocol: tcp\n    resources:\n      - path: /\n',
    ),
    `${list}: is set, but protocol is tcp`,
  );
  t.match(own(FILMS.slice(FILMS.indexOf('      - path')), ''), list);
});

t.test('changes at run time, and the file that is saved', async (t) => {
  problems(loadBalancerConfig, OWN);
  const { data, text } = loadBalancerFile(FILE);
  const virtualServer = 'films';
  const more = addResource(data, { virtualServer, path: '/b/', nodes: ['n1'] });
  t.match(allResources(more).at(-1), { virtualServer, path: '/b/', nodes: ['n1'] });
  t.equal(more.resources, data.resources, 'the common ones stay');
  const saved = renderConfig(text, more);
  t.match(saved, '# all of it', 'comments stay');
  t.same(parse(saved), JSON.parse(JSON.stringify(more)));
  const less = removeResource(more, { virtualServer, host: 'www.example.org', path: '/a/' });
  const last = removeResource(less, { virtualServer, path: '/b/' });
  t.throws(() => removeResource(last, { virtualServer, path: '/' }), { code: 'BATON_IN_USE' });
  t.throws(() => removeResource(data, { path: '/nowhere/' }), { code: 'BATON_UNKNOWN' });
  t.throws(() => removeNode(data, 'n2'), /holds the resources? .*of films/);
  t.throws(() => addResource(data, { virtualServer: 'www', path: '/b/', nodes: ['n1'] }), {
    code: 'BATON_IN_USE',
    message: /no resources of its own/,
  });
  t.throws(() => addResource(data, { virtualServer: 'film', path: '/b/', nodes: ['n1'] }), {
    code: 'BATON_UNKNOWN',
  });
});
