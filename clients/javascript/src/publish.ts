/** HTTP publishing: one message, once. */

import { authorized, type Access } from "./access.js";
import { pause, waitFor } from "./backoff.js";
import { isFinal, problemOf, Refused, type Problem } from "./problem.js";

export interface PublishOptions extends Access {
  /** The same key means the same message: it is appended once. Without one, each call has its own. */
  idempotencyKey?: string | undefined;
  /** Close the topic with this message. */
  close?: boolean | undefined;
  /** How many times to try; a try that got no answer is repeated under the same key. */
  attempts?: number | undefined;
  signal?: AbortSignal | undefined;
}

export interface Published {
  /** The message's place. */
  offset: number;
  nextOffset: number;
  count: number;
}

/**
 * Append a message to a topic, where the service has `PUBSUB_PUBLISH_ENABLED`.
 *
 * Throws `Refused` with the problem when the service refuses, and the error of `fetch` when it cannot be reached.
 */
export async function publish(url: string | URL, data: unknown, options: PublishOptions = {}): Promise<Published> {
  const { idempotencyKey = crypto.randomUUID(), close = false, attempts = 6, signal = null, credentials } = options;
  const at = new URL(url, globalThis.location?.href);
  if (close) at.searchParams.set("close", "true");
  let refused: Problem | undefined;
  for (let tried = 1; ; tried += 1) {
    let retryAfter: string | null = null;
    try {
      const [headers] = await authorized(options, refused);
      headers.set("content-type", "application/json");
      headers.set("idempotency-key", idempotencyKey);
      const body = JSON.stringify(data);
      const answer = await fetch(at, { method: "POST", headers, body, signal, ...(credentials && { credentials }) });
      if (answer.ok) return (await answer.json()) as Published;
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
