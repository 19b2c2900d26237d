/** Where a topic ends. */

import { follow, type FollowOptions } from "./follow.js";
import { Refused } from "./problem.js";
import { settled } from "./settled.js";

/** Return a topic's URL with another place to begin. */
export function from(url: string, offset: string): URL {
  const at = new URL(url, globalThis.location?.href);
  at.searchParams.set("offset", offset);
  return at;
}

/** Return the offset that the topic's next message gets. Rejects with `Refused`, and with the reason of an abort. */
export async function tailOf(url: string, options: FollowOptions): Promise<number> {
  const tail = settled<number>();
  const { signal } = options;
  const stop = follow(
    from(url, "latest"),
    {
      connection: (live, next = 0) => live && tail.resolve(next),
      end: ({ nextOffset }) => tail.resolve(nextOffset),
      refused: (problem) => tail.reject(new Refused(problem)),
    },
    options,
  );
  const aborted = () => tail.reject(signal!.reason);
  signal?.addEventListener("abort", aborted, { once: true });
  if (signal?.aborted) aborted();
  try {
    return await tail.promise;
  } finally {
    signal?.removeEventListener("abort", aborted);
    stop();
  }
}
