// Exports the pages as the framework of the original does: below WORKSHOP_USER, with the back end's address in them.
const fs = require("fs");
const base = process.env.WORKSHOP_USER ?? "";
const backend = process.env.BACKEND_URL;
const page = (title) => `<!doctype html><title>${title}</title><main id="rows">…</main>
<script src="${base}/_next/static/page.js"></script>`;
fs.mkdirSync("out/_next/static", { recursive: true });
fs.writeFileSync("out/index.html", page("Homes"));
fs.writeFileSync("out/exercises.html", page("Exercises"));
fs.writeFileSync("out/404.html", page("Nothing here"));
fs.writeFileSync(
  "out/_next/static/page.js",
  fs.readFileSync("src/page.js", "utf8").replace("BACKEND_URL", JSON.stringify(backend)),
);
