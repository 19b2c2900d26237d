// Dev servers as people set them up, with their compression on, before a service: node dev-servers.mjs KIND PORT TARGET

import { createRequire } from "node:module";

const [kind, port, target] = process.argv.slice(2);

const kinds = {
  async express() {
    const { default: express } = await import("express");
    const { default: compression } = await import("compression");
    const { createProxyMiddleware } = await import("http-proxy-middleware");
    const app = express();
    app.use(compression());
    app.use(createProxyMiddleware({ target, pathFilter: "/pubsub" }));
    app.listen(Number(port), "127.0.0.1");
  },

  async "webpack-dev-server"() {
    const { default: webpack } = await import("webpack");
    const { default: WebpackDevServer } = await import("webpack-dev-server");
    const entry = createRequire(import.meta.url).resolve("reconnecting-eventsource"); // some module: nobody asks for it
    const options = { port: Number(port), host: "127.0.0.1", hot: false, client: false, static: false };
    const proxy = [{ context: ["/pubsub"], target }];
    const compiler = webpack({ mode: "development", entry, infrastructureLogging: { level: "error" }, stats: "none", output: { path: "/nowhere" } });
    await new WebpackDevServer({ ...options, proxy }, compiler).start();
  },
};

await kinds[kind]();
