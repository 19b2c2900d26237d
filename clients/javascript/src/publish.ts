/** HTTP publishing: one message, once. */

import { post, type PostOptions } from "./post.js";

export interface PublishOptions extends PostOptions {
  /** The same key means the same message: it is appended once. Without one, each call has its own. */
  idempotencyKey?: string | undefined;
  /** Close the topic with this message. */
  close?: boolean | undefined;
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
export function publish(url: string | URL, data: unknown, options: PublishOptions = {}): Promise<Published> {
  const { idempotencyKey = crypto.randomUUID(), close = false } = options;
  return post(url, close ? { close: "true" } : {}, data, idempotencyKey, options);
}
