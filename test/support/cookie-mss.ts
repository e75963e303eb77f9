/**
 * The MSS values that a SYN cookie can carry, in ascending order. Engine and kernel must agree on
 * them.
 */
export const COOKIE_MSS: readonly number[] = [
  ...[536, 576, 640, 768, 896, 966, 1024, 1120, 1160, 1200, 1220, 1240, 1260, 1280, 1300, 1320],
  ...[
    1340, 1350, 1360, 1370, 1380, 1390, 1400, 1410, 1420, 1430, 1440, 1452, 1460, 4312, 8960,
    16_344,
  ],
];

/** A client's MSS as a cookie carries it: never larger. */
export function roundedMss(mss: number): number {
  return Math.max(536, ...COOKIE_MSS.filter((value) => value <= mss));
}
