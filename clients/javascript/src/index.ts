/**
 * Topics of restate-pubsub in a browser, or wherever there is `fetch`.
 *
 * Nothing here knows a framework: those build on it, each in a folder of its own.
 */

export { follow } from "./follow.js";
export type { FollowOptions, Handlers, Place, Restart, Stop } from "./follow.js";
export { Refused } from "./problem.js";
export type { Problem } from "./problem.js";
export { publish } from "./publish.js";
export type { Published, PublishOptions } from "./publish.js";
export { answer, stop } from "./control.js";
export type { Stopped, StopOptions, StopWhat } from "./control.js";
export type { PostOptions } from "./post.js";
export type { Access, Token } from "./access.js";
