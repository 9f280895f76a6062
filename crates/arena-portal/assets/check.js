// The connection test: what an editor needs, tried once each, then told to the event.
const check = document.getElementById("check");
const form = document.getElementById("run");
const verdict = document.getElementById("verdict");
const texts = check.dataset;
const TRIES = 9;
const PATIENCE = 10_000;

function within(promise) {
  return Promise.race([promise, new Promise((_, fail) => setTimeout(fail, PATIENCE, new Error("late")))]);
}

/** Opens a WebSocket, and returns how long each of some echoes took. */
function echoes() {
  return within(new Promise((done, fail) => {
    const times = [];
    let sent = 0;
    const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/check/echo`);
    const say = () => { sent = performance.now(); socket.send(String(times.length)); };
    socket.onopen = say;
    socket.onmessage = () => {
      times.push(performance.now() - sent);
      if (times.length < TRIES) return say();
      socket.close();
      done(times);
    };
    socket.onerror = fail;
    socket.onclose = fail;
  }));
}

async function cookies() {
  await fetch("/check/cookie");
  return (await fetch("/check/cookie").then((answer) => answer.json())).kept;
}

/** Names the hosts of the event that do not answer. */
async function blocked() {
  const names = ["instructions", "editor", "app"];
  const reached = await Promise.all(names.map((name) =>
    within(fetch(`${texts[name]}/health`, { mode: "no-cors", cache: "no-store" })).then(() => true, () => false)));
  return names.filter((_, index) => !reached[index]);
}

function show(step, works, detail = "") {
  const line = check.querySelector(`[data-step="${step}"]`);
  const outcome = line.querySelector(".outcome");
  line.dataset.state = works ? "ok" : "bad";
  outcome.textContent = detail || (works ? outcome.dataset.ok : outcome.dataset.bad);
  line.querySelector(".help").hidden = works;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  verdict.textContent = texts.testing;
  // First: it needs the press of the button.
  const clipboard = await within(Promise.resolve().then(() => navigator.clipboard.writeText("Arena"))).then(() => true, () => false);
  show("clipboard", clipboard);
  const times = await echoes().catch(() => []);
  show("websocket", times.length > 0);
  const middle = times.length ? Math.round(times.sort((a, b) => a - b)[Math.floor(times.length / 2)]) : null;
  show("latency", middle !== null && middle < 300, middle === null ? "" : texts.latency.replace("{}", middle));
  const kept = await cookies().catch(() => false);
  show("cookies", kept);
  const missing = await blocked();
  show("hosts", missing.length === 0, missing.map((name) => new URL(texts[name]).host).join(", "));
  const found = { name: form.elements.name?.value ?? "", websocket: times.length > 0, cookies: kept, clipboard, blocked: missing, latency_ms: middle };
  const answer = await fetch("/check/report", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(found) }).catch(() => null);
  const good = found.websocket && kept && missing.length === 0;
  verdict.textContent = (good ? texts.good : texts.bad) + (answer?.ok ? "" : ` ${texts.unsent}`);
  verdict.dataset.state = good ? "ok" : "bad";
  button.disabled = false;
});
