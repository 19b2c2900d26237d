/** What a restart leaves of an agent's messages. Pure. */

import type { Message } from "@ag-ui/client";
import type { Stays } from "./runs.js";

/** Return the messages without what an abandoned attempt wrote. */
export function takenBack(messages: readonly Message[], stays: Stays): Message[] {
  return messages.flatMap((message): Message[] => {
    const length = stays[message.id];
    let left = message;
    if (length !== undefined && typeof message.content === "string") {
      if (length === null) return [];
      left = { ...message, content: message.content.slice(0, length) } as Message;
    }
    if (left.role !== "assistant" || !left.toolCalls?.some(({ id }) => id in stays)) return [left];
    const toolCalls = left.toolCalls.flatMap((called) => {
      const stay = stays[called.id];
      if (stay === undefined) return [called];
      if (stay === null) return [];
      return [{ ...called, function: { ...called.function, arguments: called.function.arguments.slice(0, stay) } }];
    });
    return toolCalls.length || left.content ? [{ ...left, toolCalls }] : []; // it was there for its calls alone
  });
}
