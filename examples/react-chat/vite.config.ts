import { defineConfig } from "vite";

/** Where `make demo-react` listens: it has the routes that the page needs, and serves what is built here at `/page`. */
const chat = "http://localhost:8000";

export default defineConfig(({ command }) => ({
  base: command === "build" ? "/page/" : "/",
  // `restate-pubsub` is a link to a folder that has these packages as well.
  resolve: { dedupe: ["ai", "react"] },
  build: { chunkSizeWarningLimit: 1000 }, // kilobytes
  server: { proxy: { "/pubsub": chat, "/prompt": chat } },
}));
