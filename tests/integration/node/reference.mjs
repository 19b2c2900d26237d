// The published TypeScript packages, driven from the tests: `node reference.mjs COMMAND …`; output is JSON lines.
import http2 from "node:http2";
import { createPubsubClient } from "@restatedev/pubsub-client";
import { createPubsubObject } from "@restatedev/pubsub";
import * as restate from "@restatedev/restate-sdk";

const [command, url, topic, ...rest] = process.argv.slice(2);
const client = () => createPubsubClient({ url, name: process.env.NAME ?? "pubsub", pullInterval: { milliseconds: 0 } });
const say = (value) => console.log(JSON.stringify(value));

switch (command) {
  case "serve": {
    const pubsub = createPubsubObject("pubsub", { pullTimeout: { seconds: 60 } });
    const server = http2.createServer(restate.createEndpointHandler({ services: [pubsub] }));
    server.listen(Number(url), "127.0.0.1", () => say({ listening: Number(url) }));
    break;
  }
  case "publish": // … URL TOPIC [JSON, key or empty]…
    for (let at = 0; at < rest.length; at += 2) {
      await client().publish(topic, JSON.parse(rest[at]), rest[at + 1] || undefined);
    }
    break;
  case "truncate":
    await client().truncate(topic, Number(rest[0]));
    break;
  case "pull": { // … URL TOPIC OFFSET COUNT, then an offset that is not given at all is the tail
    let left = Number(rest[1]);
    const offset = rest[0] === "tail" ? undefined : Number(rest[0]);
    try {
      for await (const message of client().pull({ topic, offset })) {
        say({ message });
        if (--left === 0) break;
      }
    } catch (error) {
      say({ error: error.message });
    }
    process.exit(0);
  }
  case "sse": { // … URL TOPIC OFFSET COUNT: the bytes of its own stream
    const reader = client().sse({ topic, offset: Number(rest[0]) }).getReader();
    const decoder = new TextDecoder();
    for (let left = Number(rest[1]) + 1; left > 0; left--) {
      const { value } = await reader.read();
      say({ bytes: decoder.decode(value) });
    }
    process.exit(0);
  }
}
