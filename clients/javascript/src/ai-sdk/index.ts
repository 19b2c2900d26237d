/** Topics for the Vercel AI SDK. */

export { TopicChatTransport } from "./transport.js";
export type { Send, TopicChatTransportOptions } from "./transport.js";
