/** A topic as a component's state. */

import { useEffect, useMemo, useSyncExternalStore } from "react";
import { NOTHING, TopicStore, type TopicOptions, type TopicState } from "./topic-store.js";

export type UseTopicOptions = TopicOptions;
export type Topic = TopicState;

const nothing = () => NOTHING;
const noSubscription = () => () => {};

/**
 * Follow a topic while the component is mounted. With `null` instead of a URL there is none, yet.
 *
 * The options may be written where they are used: only another URL, `join` or `fetch` begins anew.
 */
export function useTopic(url: string | URL | null, options: UseTopicOptions = {}): Topic {
  const at = url === null ? null : String(url);
  const { join, fetch } = options;
  // The options of the first render are in it; the effect below brings those of later ones.
  const store = useMemo(() => (at === null ? null : new TopicStore(at, options)), [at, join, fetch]);
  useEffect(() => {
    if (store) store.options = options;
  });
  return useSyncExternalStore(store?.subscribe ?? noSubscription, store?.state ?? nothing, nothing);
}
