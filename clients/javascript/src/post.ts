/** Sends a JSON body, as often as it takes, so that it counts once. */

import { authorized, type Access } from "./access.js";
import { pause, waitFor } from "./backoff.js";
import { isFinal, problemOf, Refused, type Problem } from "./problem.js";

export interface PostOptions extends Access {
  /** How many times to try; a try that got no answer is repeated under the same key. */
  attempts?: number | undefined;
  signal?: AbortSignal | undefined;
  /** What to ask with instead of the global `fetch`. */
  fetch?: typeof fetch | undefined;
}

/**
 * Post `data` to a topic with these parameters, and return what the service answers.
 *
 * Throws `Refused` with the problem when the service refuses, and the error of `fetch` when it cannot be reached.
 */
export async function post<T>(
  url: string | URL,
  parameters: Record<string, string>,
  data: unknown,
  key: string,
  options: PostOptions,
): Promise<T> {
  const { attempts = 6, signal = null, credentials, fetch: ask = globalThis.fetch } = options;
  const at = new URL(url, globalThis.location?.href);
  for (const [name, value] of Object.entries(parameters)) at.searchParams.set(name, value);
  let refused: Problem | undefined;
  for (let tried = 1; ; tried += 1) {
    let retryAfter: string | null = null;
    try {
      const [headers] = await authorized(options, refused);
      headers.set("content-type", "application/json");
      headers.set("idempotency-key", key);
      const body = JSON.stringify(data);
      const answer = await ask(at, { method: "POST", headers, body, signal, ...(credentials && { credentials }) });
      if (answer.ok) return (await answer.json()) as T;
      const again = answer.status === 401 && typeof options.token === "function" && !refused;
      refused = await problemOf(answer);
      if ((isFinal(answer) && !again) || tried >= attempts) throw new Refused(refused);
      if (again) continue; // at once, with a new token
      retryAfter = answer.headers.get("retry-after");
    } catch (error) {
      if (error instanceof Refused || signal?.aborted || tried >= attempts) throw error;
    }
    await pause(waitFor(tried, retryAfter), signal);
  }
}
