/** Parts that several documents of the API have. */
import { type Static, Type } from '@sinclair/typebox';

export const Count = (description: string) => Type.Number({ minimum: 0, description });
export const Ms = (description: string) => Type.Number({ description: `${description}, in ms` });
export const Time = (description: string) =>
  Type.Number({ description: `${description}, in ms since 1970` });

/** One of several words. */
export const Choice = <const Words extends readonly string[]>(words: Words, description: string) =>
  Type.Unsafe<Words[number]>({ type: 'string', enum: [...words], description });

/** No other keys are allowed: an unknown key of a query or a body is an error. */
export const closed = { additionalProperties: false } as const;

/** The body of every error response: the fields of a BatonError. */
export const ErrorDocument = Type.Object(
  {
    error: Type.Object({
      code: Type.String({ description: 'A stable word for scripts, such as BATON_UNKNOWN' }),
      message: Type.String({ description: 'What is wrong, in words' }),
      where: Type.Optional(
        Type.String({ description: 'Where it is wrong: a file, a key, a name' }),
      ),
      hint: Type.Optional(Type.String({ description: 'What the caller can do' })),
    }),
  },
  { description: 'An error' },
);
export type ErrorDocument = Static<typeof ErrorDocument>;

/** Type of the text of `/metrics`: Prometheus' text format. */
export const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** Value of the Server header field, by which a client recognizes Baton. */
export const SERVER_HEADER = 'Baton';

/** Packets that were only forwarded, for a virtual server with mode forward or to a node. */
export const ForwardedCounts = Type.Object({
  packets: Count('Packets forwarded'),
  bytes: Count('Bytes of them, with Ethernet headers'),
  flows: Count('Flows that chose a node; with buckets, TCP connections that were opened'),
});
