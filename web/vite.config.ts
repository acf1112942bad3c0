import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

// One page so far. Everything is a file of our own origin: the kiosk's policy (default-src 'self') forbids inline
// scripts, inline styles and data: URLs, so nothing may be inlined.
export default defineConfig({
  root: 'src/kiosk',
  base: '/',
  plugins: [svelte()],
  build: {
    outDir: '../../dist/kiosk',
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: 'chrome110',
  },
});
