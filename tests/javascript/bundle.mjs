// node bundle.mjs NODE_MODULES PAGE OUT: bundles a page's script as an application's would be.

import { createRequire } from "node:module";
import { join } from "node:path";

const [modules, page, out] = process.argv.slice(2);
const { build } = createRequire(join(modules, "x.js"))("esbuild");
await build({
  entryPoints: [page],
  outfile: out,
  bundle: true,
  format: "esm",
  jsx: "automatic",
  nodePaths: [modules],
  define: { "process.env.NODE_ENV": '"development"' },
  logLevel: "error",
});
