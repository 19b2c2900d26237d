/** What a page has of one topic: messages, open questions, and where to go on. */

import { Messages, type Message } from "./messages.js";
import type { Question, TopicOptions } from "./topic-store.js";

export class Content {
  questions: readonly Question[] = [];
  /** Where to go on; nothing, while there was nothing yet. */
  next: number | undefined;
  ended = false;
  incomplete = false;
  #messages: Messages;

  constructor(join: string | undefined, options: () => TopicOptions) {
    this.#messages = new Messages(join, (message, id) => {
      const { join, writtenBy } = options();
      return writtenBy ? writtenBy(message, id) : join !== undefined && typeof message.data?.[join] === "string";
    });
  }

  /** A new array each time, with the same objects for those that have not changed. */
  get messages(): Message[] {
    return this.#messages.list;
  }

  take(name: string, data: any, offset: number): void {
    this.next = offset + 1;
    if (name === "end") {
      this.ended = true;
    } else if (name === "reset") {
      this.#messages.clear();
      this.questions = [];
      this.incomplete = true;
    } else if (name === "restart") {
      this.#messages.restart(data.id, data.offset);
    } else {
      this.#messages.add(name, data, offset);
      if (name === "question") this.questions = [...this.#without(data.id), { ...data, offset }];
      if (name === "answer") this.questions = this.#without(data.id);
    }
  }

  #without(id: string): Question[] {
    return this.questions.filter((one) => one.id !== id);
  }
}
