/** Bodies and answers of the calls that change a running balancer. */
import { type Static, Type } from '@sinclair/typebox';
import { closed } from './common.js';

export const ChangeReport = Type.Object(
  {
    changed: Type.Array(Type.String(), {
      description: 'What has changed, a line for people each; empty when nothing had to change',
    }),
    generation: Type.Integer({
      minimum: 1,
      description: 'Number of the farm that runs now: 1 at the start, one more with each change',
    }),
    warnings: Type.Optional(
      Type.Array(Type.String(), { description: 'Warnings about the config, a line each' }),
    ),
  },
  { description: 'A change that is in force' },
);
export type ChangeReport = Static<typeof ChangeReport>;

export const ReloadBody = Type.Object(
  {
    file: Type.Optional(
      Type.String({
        pattern: '^/[^\\u0000]*$',
        maxLength: 4_096,
        description:
          'Absolute path of the config file to read; default: the file that was read last. Only on the unix socket.',
        expected: 'an absolute path',
      }),
    ),
  },
  { ...closed, description: 'Which config file to read' },
);
export type ReloadBody = Static<typeof ReloadBody>;

export const ConfigDocument = Type.Object(
  {
    text: Type.String({ description: 'The config that runs, as YAML' }),
    file: Type.String({ description: 'The file that it came from' }),
    saved: Type.Boolean({ description: 'Whether the file says the same as what runs' }),
  },
  { description: 'The config that runs' },
);
export type ConfigDocument = Static<typeof ConfigDocument>;

export const SaveBody = Type.Object(
  {
    force: Type.Optional(
      Type.Boolean({
        description:
          'Overwrite the file even if somebody has changed it since the balancer has read it',
        expected: 'true or false',
      }),
    ),
  },
  { ...closed, description: 'How to save' },
);
export type SaveBody = Static<typeof SaveBody>;

export const SaveDocument = Type.Object(
  {
    file: Type.String({ description: 'The config file' }),
    written: Type.Boolean({ description: 'False: the file said the same already' }),
  },
  { description: 'The config is saved' },
);
export type SaveDocument = Static<typeof SaveDocument>;

/** The response to a request to leave. */
export const LeaveDocument = Type.Object({ leaving: Type.Boolean() });
export type LeaveDocument = Static<typeof LeaveDocument>;
