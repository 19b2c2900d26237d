/** Topics in React. */

export { useTopic } from "./use-topic.js";
export { useTopics } from "./use-topics.js";
export type { Topics, UseTopicsOptions } from "./use-topics.js";
export type { OneOfTopics, TopicsState } from "./topics-store.js";
export type { Topic, UseTopicOptions } from "./use-topic.js";
export type { ConnectionState, Question, TopicState } from "./topic-store.js";
export type { Message, WrittenBy } from "./messages.js";
