/** The query of a capture. */
import { type Static, Type } from '@sinclair/typebox';

/** Most and fewest bytes that a capture may keep of a frame. */
export const MOST_SNAP_BYTES = 262_144;
export const FEWEST_SNAP_BYTES = 64;

/** The frames that a capture wants. The response is a stream of records (wire/tap-record.ts). */
export const CaptureQuery = Type.Object(
  {
    snapLength: Type.Integer({ minimum: FEWEST_SNAP_BYTES, maximum: MOST_SNAP_BYTES }),
    received: Type.Boolean({
      description: 'Whether to include received frames, which an XDP program may show itself',
    }),
    client: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 0xffff_ffff,
        description: 'IPv4 address of the client, as a number',
      }),
    ),
    clientPort: Type.Optional(Type.Integer({ minimum: 1, maximum: 0xffff })),
  },
  { additionalProperties: false },
);
export type CaptureQuery = Static<typeof CaptureQuery>;
