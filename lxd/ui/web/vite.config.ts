import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The daemon serves the pages below /ui/ and embeds what is built here. During
// development 'npm run dev' serves them and hands the API to SETT_URL.
export default defineConfig({
  base: "/ui/",
  plugins: [react()],
  build: {
    outDir: "out",
    target: "es2022",
    assetsInlineLimit: 0, // the page's policy lets no data: scripts or styles in
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 1000,
  },
  server: {
    proxy: { "/1.0": { target: process.env["SETT_URL"] ?? "http://127.0.0.1:8080", ws: true } },
  },
});
