// Live events for all tabs of this browser over one connection: HTTP/1 allows six to a host.
// The tab that holds the lock listens and tells the others; when it closes, the next one does.
const channel = "BroadcastChannel" in window ? new BroadcastChannel("arena-live") : null;
const names = ["leaderboard", "exercise", "seat", "room", "waiting", "connections", "reload", "message"];
const handlers = new Map();
const latest = new Map();
// What a tab that is just opening may have missed.
const recent = [];
const RECENT_MAX = 200;
const seen = Number(document.documentElement.dataset.seen ?? 0);
let leads = false;

/** Calls `handler` with each event of that name. */
export function on(name, handler) {
  handlers.set(name, [...(handlers.get(name) ?? []), handler]);
}

function deliver(name, data) {
  for (const handler of handlers.get(name) ?? []) handler(data);
}

function listen() {
  leads = true;
  // The page shows how things were when it was made; what happened since comes first.
  const source = new EventSource(`/_arena/events?after=${seen}`);
  source.onopen = () => document.documentElement.classList.remove("offline");
  source.onerror = () => document.documentElement.classList.add("offline");
  for (const name of names) {
    source.addEventListener(name, (event) => {
      const data = JSON.parse(event.data);
      if (name === "leaderboard" || name === "seat") latest.set(name, data);
      recent.push({ id: Number(event.lastEventId), name, data });
      if (recent.length > RECENT_MAX) recent.shift();
      channel?.postMessage({ name, data });
      deliver(name, data);
    });
  }
  return new Promise(() => {});
}

const own = crypto.randomUUID?.() ?? String(Math.random());

/** Begins to listen; call it after every `on`. */
export function start() {
  if (channel) {
    channel.onmessage = ({ data: message }) => {
      if (message.name === "hello") {
        if (!leads) return;
        for (const [name, data] of latest) channel.postMessage({ name, data, to: message.from });
        for (const { id, name, data } of recent) if (id > message.seen) channel.postMessage({ name, data, to: message.from });
      } else if (!leads && (!message.to || message.to === own)) deliver(message.name, message.data);
    };
    channel.postMessage({ name: "hello", from: own, seen });
  }
  if (channel && navigator.locks) navigator.locks.request("arena-live", listen);
  else listen();
}

on("message", ({ text }) => toast(text));

/** Shows a line for a while. */
export function toast(text) {
  const line = document.createElement("p");
  line.textContent = text;
  document.getElementById("toasts")?.append(line);
  setTimeout(() => line.remove(), 12_000);
}

/** Shows how long it is until the board freezes, in `element`. */
export function countdown(element, texts, closeOn, skew = 0) {
  clearInterval(element.timer);
  const show = () => {
    const left = closeOn ? Math.ceil((Date.parse(closeOn) - (Date.now() + skew)) / 1000) : null;
    element.hidden = left === null;
    if (left === null) return;
    if (left <= 0) { element.textContent = texts.frozen; element.classList.add("frozen"); return; }
    element.classList.remove("frozen");
    const hours = Math.floor(left / 3600);
    const clock = `${String(Math.floor(left / 60) % 60).padStart(hours ? 2 : 1, "0")}:${String(left % 60).padStart(2, "0")}`;
    element.textContent = texts.freezes.replace("{}", hours ? `${hours}:${clock}` : clock);
    element.classList.toggle("soon", left <= 60);
  };
  show();
  if (closeOn) element.timer = setInterval(show, 1000);
}
