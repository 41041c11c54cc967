// Numbers in words.

/** @param {number} n */
export const compact = (n) => new Intl.NumberFormat("en", { notation: "compact" }).format(n);

/** @param {number} n @param {string} word */
export const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

/**
 * Three significant digits, without zeros at the end.
 *
 * @param {number} n
 */
const rounded = (n) => (n >= 999.5 ? n.toFixed(0) : String(Number(n.toPrecision(3))));

/**
 * A size, as Python's `_units.py` writes it.
 *
 * @param {number | null | undefined} n
 */
export function bytes(n) {
  if (n === null || n === undefined) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 999.5 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${rounded(n)} ${units[unit]}`;
}

/**
 * A duration, as Python's `_units.py` writes it.
 *
 * @param {number} seconds
 */
export function time(seconds) {
  if (seconds < 1e-9) return "0 s";
  if (seconds * 1e6 < 999.5) return `${rounded(seconds * 1e6)} µs`;
  if (seconds * 1e3 < 999.5) return `${rounded(seconds * 1e3)} ms`;
  if (seconds < 599.5) return `${rounded(seconds)} s`;
  return seconds < 36_000 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(0)} h`;
}

/** When something was, in hours of the day: the same wherever it is shown. @param {number} seconds since 1970 */
export function clock(seconds) {
  const at = new Date(seconds * 1000);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((n) => String(n).padStart(2, "0")).join(":");
}
