/** Topics for the clients of AG-UI. */

export { TopicAgent } from "./topic-agent.js";
export type { TopicAgentOptions } from "./topic-agent.js";
