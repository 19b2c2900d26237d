/** An agent for clients of AG-UI: its runs come from a topic, and outlive connections, reloads and retried steps. */

import { AbstractAgent, type AgentConfig, type AgentSubscriber, type BaseEvent, type RunAgentInput } from "@ag-ui/client";
import { Observable, type Subscriber } from "rxjs";
import type { Access } from "../access.js";
import { stop, type StopWhat } from "../control.js";
import { follow, type FollowOptions } from "../follow.js";
import { problemOf, Refused } from "../problem.js";
import { settled } from "../settled.js";
import { from, tailOf } from "../tail.js";
import { Runs } from "./runs.js";
import { takenBack } from "./taken-back.js";

export interface TopicAgentOptions extends AgentConfig, Access {
  /** The URL of a thread's topic. */
  topic: (threadId: string) => string;
  /**
   * Starts the run; it is done once that is accepted, and does not wait for the answer. A `Response` that is not `ok`
   * counts as refused.
   */
  send: (input: RunAgentInput) => Promise<unknown>;
  /** What `abortRun` stops in the topic. Without it the page stops reading, and the agent goes on. */
  stop?: ((threadId: string) => StopWhat) | undefined;
  silence?: FollowOptions["silence"];
  fetch?: FollowOptions["fetch"];
}

/** Takes back what an abandoned attempt wrote: AG-UI has no event for that, so the runs say it in one of their own. */
const TAKES_BACK: AgentSubscriber = {
  onCustomEvent: ({ event: { name, value }, messages }) =>
    name === "restart" && value?.stays ? { messages: takenBack(messages, value.stays) } : undefined,
};

/**
 * An agent on the topics of restate-pubsub, whose messages without an event name are events of AG-UI.
 *
 * Before it sends, it opens the thread's topic at its end, so it misses nothing of the run. A connection that is cut goes
 * on in the middle. `connectAgent` shows the thread's runs from the first on, and goes on with the one that is alive.
 */
export class TopicAgent extends AbstractAgent {
  private options: TopicAgentOptions;
  private leave: (() => void) | undefined;

  constructor(options: TopicAgentOptions) {
    super(options);
    this.options = options;
    this.subscribe(TAKES_BACK);
  }

  run(input: RunAgentInput): Observable<BaseEvent> {
    return this.reading(async (signal, to) => {
      await this.read(input, "latest", 0, signal, to);
      const answer = await this.options.send(input);
      if (answer instanceof Response && !answer.ok) throw new Refused(await problemOf(answer));
    });
  }

  protected override connect(input: RunAgentInput): Observable<BaseEvent> {
    return this.reading(async (signal, to) => {
      const tail = await tailOf(this.options.topic(input.threadId), { ...this.options, signal });
      if (tail === 0) to.complete();
      else await this.read(input, "0", tail, signal, to);
    });
  }

  /** Leave the run, as the page's reader wants no more of it. With the option `stop`, it is stopped for everybody. */
  override abortRun(): void {
    const what = this.isRunning ? this.options.stop?.(this.threadId) : undefined;
    this.leave?.();
    if (what) void stop(this.options.topic(this.threadId), { ...this.options, ...what }).catch(() => {});
    super.abortRun();
  }

  override clone(): TopicAgent {
    const copy = super.clone() as TopicAgent;
    copy.options = this.options;
    return copy;
  }

  private reading(begin: (signal: AbortSignal, to: Subscriber<BaseEvent>) => Promise<void>): Observable<BaseEvent> {
    return new Observable((to) => {
      const reading = new AbortController();
      this.leave = () => to.complete();
      begin(reading.signal, to).catch((error) => to.error(error));
      return () => reading.abort();
    });
  }

  /** Follow a thread's topic until no run is alive and `tail` has come; resolve when it is open. */
  private read(input: RunAgentInput, offset: string, tail: number, signal: AbortSignal, to: Subscriber<BaseEvent>): Promise<void> {
    const runs = new Runs();
    const open = settled<void>();
    let begun = tail > 0;
    follow(
      from(this.options.topic(input.threadId), offset),
      {
        "*": (name, data, at) => {
          for (const event of runs.take(name, data, at)) {
            begun = true;
            to.next(event);
          }
          if (name === "end" || (begun && !runs.alive && at + 1 >= tail)) to.complete();
        },
        connection: (live) => live && open.resolve(),
        refused: (problem) => {
          open.reject(new Refused(problem));
          to.error(new Refused(problem));
        },
      },
      { ...this.options, signal },
    );
    return open.promise;
  }
}
