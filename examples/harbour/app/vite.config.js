// The front end is served under /app/ and asks the back end under /backend.
// Where that is, is decided when it is built: BACKEND_URL, from the environment or from .env.
import { defineConfig, loadEnv } from 'vite';

export default defineConfig(({ mode }) => {
  const environment = { ...loadEnv(mode, process.cwd(), ''), ...process.env };
  return {
    base: '/app/',
    build: { outDir: 'out', emptyOutDir: true },
    define: { __BACKEND_URL__: JSON.stringify(environment.BACKEND_URL || '/backend') },
    oxc: { jsx: { runtime: 'automatic' } },
  };
});
