/** The page talks back: answers a question, stops a token stream. With access tokens, `control` permits both. */

import { post, type PostOptions } from "./post.js";

/** Which token stream to stop, and why. */
export interface StopWhat {
  /** The token stream to stop. */
  id?: string | undefined;
  /** For its writer, and for every page. */
  reason?: string | undefined;
  /** The id is an invocation's: cancel that as well. */
  cancel?: boolean | undefined;
}

export type StopOptions = StopWhat & PostOptions;

export interface Stopped {
  /** The place of the event `stop`. */
  offset: number;
  /** The token streams that were stopped. */
  stopped: string[];
}

/**
 * Answer a question of a topic. The first answer counts: the same one again is no mistake, and gets its offset.
 *
 * Throws `Refused`, whose problem's `code` is `already-answered` where another answer came before, and
 * `no-such-question` where nobody asked.
 */
export function answer(
  url: string | URL,
  id: string,
  data: unknown,
  options: PostOptions = {},
): Promise<{ offset: number }> {
  return post(url, { do: "answer", id }, data, crypto.randomUUID(), options);
}

/** Stop a token stream of a topic for good: its writer is told at its next call, and what it said stays. */
export function stop(url: string | URL, options: StopOptions = {}): Promise<Stopped> {
  const { id, reason, cancel } = options;
  return post(url, { do: "stop" }, { id, reason, cancel }, crypto.randomUUID(), options);
}
