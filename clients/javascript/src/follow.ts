/** Follow a topic: one stream after the other, so that together they have each message once. */

import { createParser } from "eventsource-parser";
import { authorized, lifetime, type Access } from "./access.js";
import { pause, waitFor } from "./backoff.js";
import { isFinal, problemOf, type Problem } from "./problem.js";

/** The messages at the wanted place are gone; the stream goes on at `head`. */
export interface Place {
  requested: number;
  head: number;
  tail: number;
}

/**
 * A token stream was begun again: drop what it wrote from `offset` on. `count` is how many messages that were; a writer
 * of an older version does not say it. Messages of others may lie between them.
 */
export interface Restart {
  id: string;
  offset: number;
  count?: number;
}

/**
 * What to do with what a stream says. The function of a message's event name gets it; `message` gets those without one.
 * What a function throws is reported as the page's own mistake, and the stream goes on. `topic` is given where the URL
 * names topics in its query: which of them it is.
 */
export interface Handlers {
  message?: (data: any, offset: number, topic?: string) => void;
  /** The topic is closed, and this was all of it. Nothing follows: of several, in this one. */
  end?: (data: { nextOffset: number }, offset: number, topic?: string) => void;
  reset?: (data: Place, offset: number, topic?: string) => void;
  restart?: (data: Restart, offset: number, topic?: string) => void;
  /** Every message and every event of the stream's own, before the function of its name. */
  "*"?: (name: string, data: any, offset: number, topic?: string) => void;
  /**
   * There is a stream, or there is none any more, and it is tried again. `next` is the offset at which it goes on: where
   * a stream from `latest` or the last few begins, for example. Nothing, where the page has not learnt it yet, and for
   * several topics.
   */
  connection?: (live: boolean, next?: number) => void;
  /** The service refuses for good: return true to try again all the same, after a pause. */
  refused?: (problem: Problem) => boolean | void | Promise<boolean | void>;
  [event: string]: ((...said: any[]) => any) | undefined;
}

export interface FollowOptions extends Access {
  /**
   * Where to go on: the offset after the last message that the page has. It wins over the URL's `offset`. For several
   * topics it is one for each, with dots in between, and an empty one is for where the page has none.
   */
  lastEventId?: string | number | undefined;
  /** Milliseconds without a byte after which an open stream counts as broken. Without it, two heartbeats. */
  silence?: number | undefined;
  /** Stops, as the returned function does. */
  signal?: AbortSignal | undefined;
  /** What to ask with instead of the global `fetch`. */
  fetch?: typeof fetch | undefined;
}

/** Stops following; nothing is called after that. */
export type Stop = () => void;

const SILENCE = 40_000; // until the first heartbeat has said how far apart they are
const BEAT = 15_000; // the service's default, until it has said
const LEAST_BEAT = 5000; // what is shorter is for tests, and no measure for a slow network or a full service
const PAUSE = 0.4; // of a beat, and less than twice that: a try of a beat and a pause are less than two beats together
const RETRY = 3000; // until the service has said
const LONGEST_TIMER = 2 ** 31 - 1;
const OWN = new Set(["connection", "refused", "*"]); // handlers that are for no event

/**
 * Follow a topic from the URL's `offset` on, from its beginning without one; or several on one stream, where the URL
 * names them in its query: `/pubsub?topic=a&topic=b`.
 *
 * It comes back after whatever breaks or refuses a stream for a while, where it was, at times that spread. A response
 * that ends without `end` was cut, however tidily: some proxies make a whole response of a broken one. A connection that
 * is silent for two heartbeats is left. Once heartbeats are known, a try has one of them to connect, and the pause after
 * it is shorter: however long a network was away, the page is back within two (10 s where they are shorter than 5 s).
 * Where `token` is a function, it is asked again before the token ends.
 */
export function follow(url: string | URL, on: Handlers, options: FollowOptions = {}): Stop {
  const { silence, signal, fetch: ask = globalThis.fetch, ...access } = options;
  const stopping = new AbortController();
  const topics = new URL(url, globalThis.location?.href).searchParams.getAll("topic"); // of several, if it is several
  const ended = new Set<string>();
  let lastEventId = String(options.lastEventId ?? "");
  let retry = RETRY;
  let beat: number | undefined; // milliseconds, as the last stream said
  let failures = 0;
  let live = false;
  let retryAfter: string | null = null;
  let unauthorized: Problem | undefined;
  let known: string | undefined; // the token of the stream before
  let renewed: Promise<[Headers, string | undefined]> | undefined;

  const stop = () => stopping.abort();
  const tell = (name: string, ...said: unknown[]) => {
    if (stopping.signal.aborted) return;
    try {
      on[name]?.(...said);
    } catch (error) {
      report(error);
    }
  };
  const connected = (now: boolean) => {
    live = now;
    tell("connection", live, lastEventId && !topics[0] ? Number(lastEventId) : undefined);
  };
  const next = (topic?: string) => Number(topic === undefined ? lastEventId : lastEventId.split(".")[topics.indexOf(topic)]);
  const event = (name: string, data: unknown, topic?: string) => {
    const said = [data, next(topic) - 1, ...(topic === undefined ? [] : [topic])];
    tell("*", name, ...said);
    if (!OWN.has(name)) tell(name, ...said);
    if (name === "end" && (topic === undefined || ended.add(topic).size === topics.length)) stop();
  };
  /** Take what a stream of several topics says: whose it is, and what it is called, is in its data. */
  const eventOfOne = (name: string, { topic, ...said }: any) => {
    if (name === "message") event(said.event ?? name, said.data, topic);
    else if (!ended.has(topic)) event(name, said, topic); // each stream says again which have ended
  };
  /** Tell that everything was read to its end before. */
  const over = () => {
    for (const topic of topics[0] ? topics : [undefined])
      if (!ended.has(topic!)) event("end", { nextOffset: next(topic) }, topic);
  };

  /** Read one stream; return or throw when it is over. */
  async function read(): Promise<void> {
    const at = new URL(url, globalThis.location?.href);
    if (lastEventId) at.searchParams.set("lastEventId", lastEventId);
    at.searchParams.set("heartbeat", "event");
    const request = renewed ?? authorized(access, unauthorized);
    renewed = undefined;
    const [headers, token] = await request;

    const connection = new AbortController();
    const leave = () => connection.abort();
    stopping.signal.addEventListener("abort", leave);
    let silent: ReturnType<typeof setTimeout> | undefined;
    let ending: ReturnType<typeof setTimeout> | undefined;
    const leaveAfter = (milliseconds: number) => {
      clearTimeout(silent);
      silent = setTimeout(leave, milliseconds);
    };
    const alive = () => leaveAfter(silence ?? (beat ? 2 * beat : SILENCE));
    try {
      leaveAfter(beat ? Math.max(beat, LEAST_BEAT) : silence ?? SILENCE); // the head comes at once, whatever is behind it
      if (stopping.signal.aborted) return;
      const { credentials } = access;
      const answer = await ask(at, { headers, signal: connection.signal, ...(credentials && { credentials }) });
      if (answer.status === 204) return over();
      retryAfter = answer.headers.get("retry-after");
      if (!answer.headers.get("content-type")?.startsWith("text/event-stream") || !answer.body) {
        await refusal(answer, () => clearTimeout(silent));
        return;
      }
      alive();
      failures = 0;
      unauthorized = undefined;
      ending = renewBeforeItEnds(token, leave);

      // A stream from `latest` or the last few can be gone on with once it has said where that is.
      const placed = () => Boolean(lastEventId) || !/(^|\.)(latest|-)/.test(at.searchParams.get("offset") ?? "");
      const parser = createParser({
        onRetry: (milliseconds) => (retry = milliseconds),
        onEvent: ({ id, event: name = "message", data }) => {
          if (stopping.signal.aborted) return;
          if (id !== undefined) lastEventId = id;
          if (name !== "heartbeat") return (topics[0] ? eventOfOne : event)(name, JSON.parse(data));
          const { seconds } = JSON.parse(data) as { seconds: number };
          beat = seconds * 1000;
          alive();
        },
      });
      const reader = answer.body.getReader();
      const decoder = new TextDecoder();
      for (;;) {
        if (placed() && !live) connected(true);
        const { done, value } = await reader.read();
        if (done || stopping.signal.aborted) return;
        alive();
        parser.feed(decoder.decode(value, { stream: true }));
      }
    } finally {
      clearTimeout(silent);
      clearTimeout(ending);
      stopping.signal.removeEventListener("abort", leave);
      leave(); // what is still open of it
    }
  }

  /** Take an answer that is no stream: stop, unless it is worth asking again. */
  async function refusal(answer: Response, wait: () => void): Promise<void> {
    if (!isFinal(answer)) return;
    const problem = await problemOf(answer);
    wait();
    if (answer.status === 401 && typeof access.token === "function" && !unauthorized) {
      unauthorized = problem;
      failures = 0; // at once, with a new token
      renewed = authorized(access, problem);
      renewed.catch(() => {});
      return;
    }
    if (stopping.signal.aborted) return;
    if (!(await on.refused?.(problem))) stop();
  }

  /** Get the next token while the stream still runs, and go over to it. */
  function renewBeforeItEnds(token: string | undefined, goOver: () => void) {
    const left = lifetime(token);
    const isNew = token !== known;
    known = token;
    // One that comes a second time is no newer: it ends when it ends, and is asked for again then.
    if (typeof access.token !== "function" || !isNew || !left || left <= 0 || left > LONGEST_TIMER) return undefined;
    return setTimeout(() => {
      const next = authorized(access);
      next.then(
        ([, renewing]) => {
          if (renewing === token) return;
          renewed = next;
          goOver();
        },
        () => {}, // the stream goes on as long as its token does
      );
    }, (left * 2) / 3);
  }

  async function keepReading(): Promise<void> {
    while (!stopping.signal.aborted) {
      failures += 1; // until there is a stream
      retryAfter = null;
      await read().catch(() => {}); // not reached, broken or silent
      if (stopping.signal.aborted) return;
      if (renewed) continue;
      connected(false);
      const longest = PAUSE * Math.max(beat ?? BEAT, LEAST_BEAT);
      await pause(failures ? waitFor(failures, retryAfter, longest) : retry, stopping.signal).catch(() => {});
    }
  }

  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop, { once: true, signal: stopping.signal });
  void keepReading();
  return stop;
}

function report(error: unknown): void {
  if (typeof reportError === "function") reportError(error);
  else console.error(error);
}
