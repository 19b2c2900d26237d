/** The runs in a topic, as AG-UI's events. Pure. */

import type { BaseEvent } from "@ag-ui/client";

/** An event of AG-UI: its type, and whatever belongs to it. */
export type Said = BaseEvent & Record<string, any>;

/** What a restart leaves of messages and tool calls, by their ids: so many characters; `null`: nothing. */
export type Stays = Record<string, number | null>;

const OVER = new Set(["RUN_FINISHED", "RUN_ERROR"]);
const ENDS: Record<string, string> = {
  TEXT_MESSAGE_START: "TEXT_MESSAGE_END",
  REASONING_START: "REASONING_END",
  REASONING_MESSAGE_START: "REASONING_MESSAGE_END",
  TOOL_CALL_START: "TOOL_CALL_END",
  STEP_STARTED: "STEP_FINISHED",
};
const BEGINNINGS = Object.fromEntries(Object.entries(ENDS).map(([start, end]) => [end, start]));
const PIECE = /^(TEXT_MESSAGE|REASONING_MESSAGE|TOOL_CALL)_(START|CONTENT|ARGS|CHUNK)$/;

/** Something that has to be ended before its run is. */
interface Part {
  start: Said;
  begun: number;
  ended?: number | undefined;
}

interface Text {
  begun: number;
  pieces: [offset: number, length: number][];
}

/** Which run is alive, if there is one, told by the events of its topic. */
export class Runs {
  alive = false;
  #started: { event: Said; offset: number } | undefined;
  #ended = -1;
  #begunAgain = false;
  #parts: Part[] = [];
  #texts = new Map<string, Text>();

  /**
   * Take an event of the topic, and return what a client gets for it.
   *
   * A message without an event name that has a `type` is an event of AG-UI. A `restart` ends what the abandoned attempt
   * left open, begins again what it had ended, and says in a `CUSTOM` event what stays of its texts. A `stop`, the
   * topic's end, and a run that begins before the one before has ended, end a run.
   */
  take(name: string, data: any, offset: number): Said[] {
    if (name === "message" && typeof data?.type === "string") return this.#event(data as Said, offset);
    if (name === "restart") return this.#restart(data);
    if (name === "stop") return this.#over(data?.reason ?? "The run was stopped", "stopped");
    if (name === "end") return this.#over("The topic ended before its run did", "ended");
    return [];
  }

  #event(event: Said, offset: number): Said[] {
    const type: string = event.type;
    const out: Said[] = [];
    if (type === "RUN_STARTED") {
      if (this.alive && this.#begunAgain) {
        this.#begunAgain = false; // its client has it from the attempt before
        return [];
      }
      out.push(...this.#over("Another run began before this one had ended", "abandoned"));
      this.alive = true;
      this.#started = { event, offset };
      this.#parts = [];
      this.#texts.clear();
    }
    if (!this.alive) return out;
    if (OVER.has(type)) {
      this.alive = false;
      this.#ended = offset;
    } else if (ENDS[type]) {
      this.#parts.push({ start: event, begun: offset });
    } else if (BEGINNINGS[type]) {
      const part = this.#parts.find(({ start, ended }) => ended === undefined && start.type === BEGINNINGS[type] && nameOf(start) === nameOf(event));
      if (part) part.ended = offset;
    }
    if (PIECE.test(type)) this.#piece(event, offset);
    return [...out, event];
  }

  #piece(event: Said, offset: number): void {
    const name = nameOf(event);
    if (name === undefined) return;
    let text = this.#texts.get(name);
    if (!text) this.#texts.set(name, (text = { begun: offset, pieces: [] }));
    text.pieces.push([offset, event.delta?.length ?? 0]);
  }

  #restart(data: { id: string; offset: number }): Said[] {
    const since = data.offset;
    // What the attempt wrote may have ended the run: then that is written again.
    if (!this.#started || !(this.alive || since <= this.#ended)) return [];
    const out: Said[] = this.alive ? [] : [this.#started.event];
    this.alive = true;
    this.#begunAgain = this.#started.offset >= since;
    const parts: Part[] = [];
    const again: Said[] = [];
    for (const part of this.#parts) {
      const { start, begun, ended } = part;
      if (begun < since) {
        parts.push(ended === undefined || ended < since ? part : { start, begun });
        if (ended !== undefined && ended >= since) again.push(start);
      } else if (ended === undefined) {
        out.unshift(endOf(start)); // the innermost first
      }
    }
    this.#parts = parts;
    const custom = { type: "CUSTOM", name: "restart", value: { ...data, stays: this.#stays(since) } } as unknown as Said;
    return [...out, custom, ...again];
  }

  #stays(since: number): Stays {
    const stays: Stays = {};
    for (const [name, text] of this.#texts) {
      const pieces = text.pieces.filter(([at]) => at < since);
      if (pieces.length === text.pieces.length) continue;
      stays[name] = text.begun < since ? pieces.reduce((length, [, more]) => length + more, 0) : null;
      if (text.begun < since) text.pieces = pieces;
      else this.#texts.delete(name);
    }
    return stays;
  }

  #over(message: string, code: string): Said[] {
    if (!this.alive) return [];
    this.alive = false;
    return [{ type: "RUN_ERROR", message, code } as unknown as Said];
  }
}

function nameOf(event: Said): string | undefined {
  return event.type.startsWith("STEP_") ? event.stepName : event.type.startsWith("TOOL_CALL_") ? event.toolCallId : event.messageId;
}

function endOf(start: Said): Said {
  const { messageId, toolCallId, stepName } = start;
  const names = { ...(messageId && { messageId }), ...(toolCallId && { toolCallId }), ...(stepName && { stepName }) };
  return { type: ENDS[start.type], ...names } as unknown as Said;
}
