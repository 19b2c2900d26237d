/** The answers in a topic, as the AI SDK's chunks. Pure. */

import type { UIMessageChunk } from "ai";

const LAST = new Set(["finish", "abort", "error"]);

/** Which answer is in progress, if there is one, told by the events of its topic. */
export class Answer {
  running = false;
  #end = 0;

  /**
   * Take an event. Return the chunk that a client gets for it, if there is one.
   *
   * A message without an event name that has a `type` is a chunk. A `restart` drops what came since the last
   * `start-step`; a `stop`, and the topic's end, end the answer.
   */
  take(name: string, data: any, offset: number): UIMessageChunk | undefined {
    if (name === "message" && typeof data?.type === "string") {
      if (data.type === "start") this.running = true;
      if (!this.running) return undefined;
      if (LAST.has(data.type)) this.#over(offset);
      return data as UIMessageChunk;
    }
    if (name === "restart") {
      // What the step wrote may have ended the answer: then that is written again.
      if (!this.running && !(data.offset < this.#end)) return undefined;
      this.running = true;
      return { type: "reset-step" } as UIMessageChunk;
    }
    if ((name === "stop" || name === "end") && this.running) {
      this.#over(offset);
      return { type: "abort" };
    }
    return undefined;
  }

  #over(offset: number): void {
    this.running = false;
    this.#end = offset + 1;
  }
}
