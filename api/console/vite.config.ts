import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

/** Writes compressed copies beside the assets, since the server compresses nothing. */
function compressed(): Plugin {
  return {
    name: "compressed",
    writeBundle({ dir }) {
      if (dir === undefined) return;
      const folder = join(dir, "assets");
      for (const name of readdirSync(folder)) {
        const content = readFileSync(join(folder, name));
        if (content.length < 1024) continue;
        writeFileSync(join(folder, `${name}.gz`), gzipSync(content, { level: 9 }));
        const quality = { [constants.BROTLI_PARAM_QUALITY]: 10 };
        writeFileSync(join(folder, `${name}.br`), brotliCompressSync(content, { params: quality }));
      }
    },
  };
}

export default defineConfig({
  plugins: [react(), compressed()],
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    // The inline polyfill is for browsers without module preload, and the policy of the page forbids inline scripts.
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  // `npm run dev` beside a server: windlass up
  server: { proxy: { "/v1": process.env.WINDLASS_URL ?? "http://127.0.0.1:8741" } },
});
