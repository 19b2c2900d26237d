// node build.mjs [DIST [SERVED]]: builds what `npm pack` takes, and the core as one file, which the service serves to
// pages without a build. The second is kept in the repository, so that wheel and image need no Node; a test compares it.

import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const [dist = join(here, "dist"), served = join(here, "../../service/restate_pubsub/web/page_client/restate-pubsub.js")] =
  process.argv.slice(2);
const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc");

rmSync(dist, { recursive: true, force: true });
execFileSync(process.execPath, [tsc, "-p", here, "--outDir", dist], { stdio: "inherit" });
await build({
  absWorkingDir: here,
  entryPoints: ["src/index.ts"],
  outfile: served,
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  banner: { js: "// The core of the npm package restate-pubsub, made from clients/javascript by `make client`." },
});
