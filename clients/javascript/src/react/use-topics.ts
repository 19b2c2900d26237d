/** Several topics as a component's state, over one stream. */

import { useEffect, useMemo, useSyncExternalStore } from "react";
import type { Stopped, StopWhat } from "../control.js";
import type { TopicOptions } from "./topic-store.js";
import { NO_TOPICS, TopicsStore, type TopicsState } from "./topics-store.js";

export type UseTopicsOptions = TopicOptions;

export interface Topics extends TopicsState {
  /** Answer a question of a topic; the first answer counts. Rejects with `Refused` where the service refuses. */
  answer: (topic: string, id: string, data: unknown) => Promise<{ offset: number }>;
  /** Stop a token stream of a topic for good. Rejects with `Refused` where the service refuses. */
  stop: (topic: string, what?: StopWhat) => Promise<Stopped>;
}

const nothing = () => NO_TOPICS;

/**
 * Follow up to a hundred topics on one connection while the component is mounted. `url` is where all topics are:
 * `/pubsub`, with `?offset=` if they are not to be read from their beginnings.
 *
 * The list may change: those that stay go on where they are. The options may be written where they are used: only
 * another URL, `join` or `fetch` begins anew.
 */
export function useTopics(url: string | URL, topics: readonly string[], options: UseTopicsOptions = {}): Topics {
  const at = String(url);
  const { join, fetch } = options;
  const store = useMemo(() => new TopicsStore(at, options), [at, join, fetch]);
  useEffect(() => {
    store.options = options;
    store.show(topics);
  });
  const state = useSyncExternalStore(store.subscribe, store.state, nothing);
  return useMemo(() => ({ ...state, answer: store.answer, stop: store.stop }), [state, store]);
}
