/** Routes of the config that runs. */
import { type Control, LOCAL_ACTOR } from '../control.js';
import { ChangeReport, ConfigDocument, ReloadBody, SaveBody, SaveDocument } from '../documents.js';
import { RequestError } from '../errors.js';
import { type Route, route } from './route.js';

export function configRoutes(control: Control): Route[] {
  return [
    route({
      method: 'GET',
      path: '/v1/config',
      id: 'getConfig',
      needs: 'config',
      tag: 'config',
      summary: 'The config that runs, as YAML',
      role: 'read-only',
      answer: { schema: ConfigDocument, description: 'The config that runs' },
      handle: () => control.config(),
    }),
    route({
      method: 'POST',
      path: '/v1/config/save',
      id: 'saveConfig',
      needs: 'saveConfig',
      tag: 'config',
      summary: 'Write what runs into the config file',
      description:
        'Comments and order of the file stay. A file that somebody has changed since the balancer has read it stays as it is (409), unless the call has force.',
      role: 'admin',
      body: SaveBody,
      errors: [409],
      answer: { schema: SaveDocument, description: 'The file says what runs' },
      handle: ({ body }) => control.saveConfig(body),
    }),
    route({
      method: 'POST',
      path: '/v1/reload',
      id: 'reload',
      needs: 'change',
      tag: 'config',
      summary: 'Read the config file, and change what runs',
      description:
        'All of the file takes effect, or nothing of it. A second reload during one gets 409. Only the unix socket takes the name of another file.',
      role: 'admin',
      body: ReloadBody,
      errors: [409],
      answer: { schema: ChangeReport, description: 'The config of the file runs' },
      handle: ({ body, actor }) => {
        if (body.file !== undefined && actor !== LOCAL_ACTOR) {
          throw new RequestError(403, 'BATON_TOKEN', 'is possible only on the unix socket', {
            where: 'body: file',
            hint: 'without this key, the file that was read last is read again',
          });
        }
        return control.change({ kind: 'reload', ...body }, actor);
      },
    }),
  ];
}
