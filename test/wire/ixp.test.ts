/** src/wire/ixp.ts and ixcp.ts against their definition, bpf/lib/ixp.h, as a C compiler sees it. */
import t from 'tap';
import { Protocol } from '../../src/wire/ipv4.js';
import {
  IXCP,
  IXCP_HEADER_BYTES,
  IXCP_VERSION,
  IxcpFlag,
  IxcpReason,
  IxcpType,
  refusedOptions,
} from '../../src/wire/ixcp.js';
import {
  CARRY,
  CARRY_HEADER_BYTES,
  IXP,
  IXP_HEADER_BYTES,
  IXP_VERSION,
  IxpFlag,
  IxpType,
} from '../../src/wire/ixp.js';
import { check } from '../support/c-values.js';

const HEADER = 'ixp.h';

t.test('IXP', async (t) => {
  const offset = (field: string): string => `offsetof(struct ixp_hdr, ${field})`;
  check(t, HEADER, [
    [offset('version'), IXP.version],
    [offset('type'), IXP.type],
    [offset('length'), IXP.length],
    [offset('service'), IXP.service],
    [offset('session'), IXP.session],
    [offset('balancer'), IXP.balancer],
    [offset('confirm'), IXP.confirm],
    [offset('mss'), IXP.mss],
    [offset('flags'), IXP.flags],
    [offset('scales'), IXP.scales],
    [offset('tsval'), IXP.tsval],
    [offset('request'), IXP.request],
    [offset('tsecr'), IXP.tsecr],
    [offset('tag'), IXP.tag],
    ['sizeof(struct ixp_hdr)', IXP_HEADER_BYTES],
    ['IXP_TAGGED', IXP.tag],
    ['BATON_VERSION', IXP_VERSION],
    ['BATON_IPPROTO_IXP', Protocol.ixp],
    ['IXP_ADOPT', IxpType.adopt],
    ['IXP_SEGMENT', IxpType.segment],
    ['IXP_RELEASE', IxpType.release],
    ['IXP_LEAVE', IxpType.leave],
    ['IXP_PARK', IxpType.park],
    ['IXP_RESUME', IxpType.resume],
    ['IXP_AWAKE', IxpType.awake],
    ['IXP_REPLAY', IxpType.replay],
    ['IXP_CARRY', IxpType.carry],
    ['offsetof(struct carry_hdr, version)', CARRY.version],
    ['offsetof(struct carry_hdr, type)', CARRY.type],
    ['offsetof(struct carry_hdr, length)', CARRY.length],
    ['offsetof(struct carry_hdr, session)', CARRY.session],
    ['CARRY_LENGTH', CARRY_HEADER_BYTES],
    ['IXP_WSCALE_OK', IxpFlag.windowScaleOk],
    ['IXP_SACK_OK', IxpFlag.sackOk],
    ['IXP_TSTAMP_OK', IxpFlag.timestampsOk],
    ['IXP_CLIENT_CONFIRMS', IxpFlag.clientConfirms],
    ['IXP_FOLLOW', IxpFlag.follow],
    ['IXP_HEAD', IxpFlag.head],
    ['IXP_HOLD_RESET', IxpFlag.holdReset],
    ['IXP_TELL', IxpFlag.tell],
  ]);
});

t.test('options that a report refuses have the bits of IXP', async (t) => {
  t.equal(refusedOptions(IxcpFlag.canAdopt | IxcpFlag.noCookies | IxcpFlag.leaving), 0);
  t.equal(refusedOptions(IxcpFlag.noWindowScale), IxpFlag.windowScaleOk);
  t.equal(refusedOptions(IxcpFlag.noSack), IxpFlag.sackOk);
  t.equal(refusedOptions(IxcpFlag.noTimestamps), IxpFlag.timestampsOk);
});

t.test('IXCP', async (t) => {
  const offset = (field: string): string => `offsetof(struct ixcp_hdr, ${field})`;
  check(t, HEADER, [
    [offset('version'), IXCP.version],
    [offset('type'), IXCP.type],
    [offset('length'), IXCP.length],
    [offset('reason'), IXCP.reason],
    [offset('session'), IXCP.session],
    [offset('client'), IXCP.client],
    [offset('virtual_addr'), IXCP.virtualAddress],
    [offset('hole'), IXCP.hole],
    [offset('flags'), IXCP.flags],
    [offset('answers'), IXCP.answers],
    [offset('client_port'), IXCP.clientPort],
    [offset('virtual_port'), IXCP.virtualPort],
    [offset('seq'), IXCP.sequence],
    [offset('ack'), IXCP.acknowledgement],
    [offset('tag'), IXCP.tag],
    ['sizeof(struct ixcp_hdr)', IXCP_HEADER_BYTES],
    ['IXCP_TAGGED', IXCP.tag],
    ['BATON_VERSION', IXCP_VERSION],
    ['BATON_IPPROTO_IXCP', Protocol.ixcp],
    ['IXCP_ADOPTED', IxcpType.adopted],
    ['IXCP_REFUSED', IxcpType.refused],
    ['IXCP_FIN', IxcpType.fin],
    ['IXCP_RST', IxcpType.rst],
    ['IXCP_REPORT', IxcpType.report],
    ['IXCP_WELCOME', IxcpType.welcome],
    ['IXCP_BAD_KEY', IxcpType.badKey],
    ['IXCP_RELEASED', IxcpType.released],
    ['IXCP_LEFT', IxcpType.left],
    ['IXCP_PARKED', IxcpType.parked],
    ['IXCP_ENDED', IxcpType.ended],
    ['IXCP_SYN_ACK', IxcpType.synAck],
    ['IXCP_REASON_NO_LISTENER', IxcpReason.noListener],
    ['IXCP_REASON_UNABLE', IxcpReason.unable],
    ['IXCP_REASON_TUPLE_IN_USE', IxcpReason.tupleInUse],
    ['IXCP_REASON_UNKNOWN_SESSION', IxcpReason.unknownSession],
    ['IXCP_REASON_UNFOLLOWED', IxcpReason.unfollowed],
    ['IXCP_REASON_UNANSWERED', IxcpReason.unanswered],
    ['IXCP_REASON_ENDING', IxcpReason.ending],
    ['IXCP_REASON_HELD_BACK', IxcpReason.heldBack],
    ['IXCP_REASON_PARKED', IxcpReason.parked],
    ['IXCP_CAN_ADOPT', IxcpFlag.canAdopt],
    ['IXCP_NAMES_ADDRESSES', IxcpFlag.namesAddresses],
    ['IXCP_CAN_RELEASE', IxcpFlag.canRelease],
    ['IXCP_CAN_LEAVE', IxcpFlag.canLeave],
    ['IXCP_NO_WSCALE', IxcpFlag.noWindowScale],
    ['IXCP_NO_SACK', IxcpFlag.noSack],
    ['IXCP_NO_TSTAMP', IxcpFlag.noTimestamps],
    ['IXCP_NO_COOKIES', IxcpFlag.noCookies],
    ['IXCP_CAN_PARK', IxcpFlag.canPark],
    ['IXCP_CAN_REPLAY', IxcpFlag.canReplay],
    ['IXCP_LEAVING', IxcpFlag.leaving],
  ]);
});
