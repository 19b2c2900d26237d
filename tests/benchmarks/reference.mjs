// The reference: the published object, and its client serving Server-Sent Events, in one process.
// node reference.mjs INGRESS_URL OBJECT_NAME ENDPOINT_PORT SSE_PORT
import http from "node:http";
import { Readable } from "node:stream";
import { createPubsubObject } from "@restatedev/pubsub";
import { createPubsubClient } from "@restatedev/pubsub-client";
import * as restate from "@restatedev/restate-sdk";

const [url, name, endpointPort, ssePort] = process.argv.slice(2);

// /published/TOPIC is the client as it comes, /eager/TOPIC the same without its pause after each pull.
const clients = {
  published: createPubsubClient({ url, name }),
  eager: createPubsubClient({ url, name, pullInterval: { milliseconds: 0 } }),
};

process.on("unhandledRejection", () => {}); // a reader that left: its pull was aborted

http
  .createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url, "http://localhost");
    const [, kind, topic] = pathname.split("/");
    const left = new AbortController();
    response.on("close", () => left.abort());
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    const stream = clients[kind].sse({ topic, offset: Number(searchParams.get("offset") ?? 0), signal: left.signal });
    const body = Readable.fromWeb(stream);
    body.on("error", () => response.destroy());
    body.pipe(response);
  })
  .listen({ port: Number(ssePort), host: "127.0.0.1", backlog: 4096 });

await restate.endpoint().bind(createPubsubObject(name, {})).listen(Number(endpointPort));
