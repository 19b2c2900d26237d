/** Topics for the Vercel AI SDK. */

export { history } from "./history.js";
export type { History, HistoryOptions } from "./history.js";
export { TopicChatTransport } from "./transport.js";
export type { Send, TopicChatTransportOptions } from "./transport.js";
