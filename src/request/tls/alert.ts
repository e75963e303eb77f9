/** Alerts of TLS (RFC 8446 section 6), which end a connection whose ClientHello is refused. */

/** AlertDescription: the alerts that a server can send before it has chosen a version. */
export const Alert = {
  /** The server ends the connection: the ClientHello was not complete in time. No error. */
  closeNotify: 0,
  /** A record, or a handshake message, that cannot begin a connection (RFC 8446 section 5). */
  unexpectedMessage: 10,
  /** A record of more than 2^14 bytes (RFC 8446 section 5.1). */
  recordOverflow: 22,
  /**
   * A client of TLS 1.2 or older names no server. Its RFCs have no alert that says so; this one
   * says that nothing can be agreed (RFC 5246 section 7.2.2).
   */
  handshakeFailure: 40,
  /** A field has a value that the RFC forbids, or the message is larger than any client sends. */
  illegalParameter: 47,
  /** The lengths in a message contradict each other. */
  decodeError: 50,
  /** SSL 2.0, SSL 3.0 (RFC 8446 appendix D.5, RFC 6176), or no version of TLS at all. */
  protocolVersion: 70,
  /** No node can take the connection now. Nothing is wrong with what the client sent. */
  internalError: 80,
  /** A client of TLS 1.3 names no server, and it must (RFC 8446 section 9.2). */
  missingExtension: 109,
  /** No resource covers the server's name (RFC 6066 section 3). */
  unrecognizedName: 112,
  /** Resources cover the name, but none of the client's protocols (RFC 7301 section 3.2). */
  noApplicationProtocol: 120,
} as const;
export type AlertCode = (typeof Alert)[keyof typeof Alert];

const ALERT_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(Alert).map(([name, alert]) => [
    alert,
    name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
  ]),
);

/** The name of an alert as the RFCs write it, such as unrecognized_name. */
export function alertName(alert: AlertCode): string {
  return ALERT_NAMES.get(alert) ?? String(alert);
}

const ALERT_RECORD = 21;
const WARNING = 1;
const FATAL = 2;
/** RFC 8446 section 5.1: every version of TLS since 1.2 accepts this version in a record. */
const RECORD_VERSION = 0x0303;

/**
 * The record of an alert, in clear: no keys are agreed before a ServerHello. Only close_notify is
 * no error (RFC 5246 section 7.2).
 */
export function alertRecord(alert: AlertCode): Uint8Array {
  const version = [RECORD_VERSION >>> 8, RECORD_VERSION & 0xff];
  const level = alert === Alert.closeNotify ? WARNING : FATAL;
  return Uint8Array.of(ALERT_RECORD, ...version, 0, 2, level, alert);
}
