/** Waits between attempts. */

const FIRST = 500;
const LONGEST = 30_000;

/**
 * Return the milliseconds to wait after so many failures in a row: they double, and are spread so that many pages do not
 * come back at the same moment: up to `longest`, and less than twice that. `retryAfter` is the header's seconds; nobody
 * comes before.
 */
export function waitFor(failures: number, retryAfter?: string | null, longest = LONGEST): number {
  const wait = Math.min(FIRST * 2 ** (failures - 1), longest);
  return Math.max(wait, (Number(retryAfter) || 0) * 1000) * (1 + Math.random());
}

/** Wait; an abort ends it at once, as an error. */
export function pause(milliseconds: number, signal: AbortSignal | null): Promise<void> {
  return new Promise((over, failed) => {
    if (signal?.aborted) return failed(signal.reason as Error);
    const aborted = () => {
      clearTimeout(timer);
      failed(signal!.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", aborted);
      over();
    }, milliseconds);
    signal?.addEventListener("abort", aborted, { once: true });
  });
}
