// The seat page: wakes the editor, says honestly how far it is, and divides the window.
import { on, start } from "./live.js";

const bench = document.getElementById("bench");
const editor = document.getElementById("editor");
const waking = document.getElementById("waking");
const phase = document.getElementById("phase");
const detail = document.getElementById("detail");
const remedy = document.getElementById("remedy");
const seconds = document.getElementById("seconds");
const progress = document.getElementById("progress");
const texts = waking.dataset;
let since = performance.now();
let step = "";
// Whether what the frame shows has ended, whatever came of the seat since.
let dead = false;
// Which run of the seat the frame is of.
let run = null;
// So many seconds at most the editor's page is waited for.
const OPENING = 30;

const isDown = (step) => step === "failed" || step === "broken";
// Whatever ran in the seat has ended: what the frame shows is dead.
const isGone = (step) => isDown(step) || step === "preparing";

// The frame stays covered until the editor's page is there: before, it is blank for seconds.
function open() {
  if (!editor.getAttribute("src") || dead) {
    dead = false;
    tell("opening");
    editor.src = editor.dataset.src;
  } else if (step !== "opening") uncover();
}

function uncover() {
  step = "";
  waking.hidden = true;
}
editor.addEventListener("load", () => { if (step === "opening") uncover(); });

function tell(now, text = texts[now], message = "") {
  if (now !== step) { step = now; since = performance.now(); }
  phase.textContent = text;
  detail.textContent = message;
  remedy.textContent = remedy.dataset[now] ?? "";
  waking.dataset.state = now;
  waking.hidden = false;
}

// Facilitators who look into the seat, as long as they may.
const visitor = document.getElementById("visitor");
let visits = [];
function visitors() {
  const here = visits.filter((visit) => Date.parse(visit.until) > Date.now());
  const names = [...new Set(here.map((visit) => visit.name))].join(", ");
  const text = names ? visitor.dataset.text.replace("{}", names) : "";
  if (visitor.textContent !== text) visitor.textContent = text;
  visitor.hidden = !names;
}

function show(seat) {
  visits = seat.visitors ?? [];
  visitors();
  const database = document.getElementById("database");
  if (database) database.dataset.state = seat.database;
  // Started again, maybe while nothing was heard of the platform.
  if (seat.run && run && seat.run !== run) dead = true;
  run = seat.run ?? run;
  if (seat.editor.state === "ready") return open();
  const now = seat.phase === "failed" ? "broken"
    : seat.editor.state === "failed" ? "failed"
    : seat.phase === "preparing" ? "preparing"
    : seat.editor.state === "queued" ? "queued"
    : seat.editor.state === "stopped" ? "starting" : seat.editor.state;
  if (isGone(now)) dead = true;
  // The editor went to sleep under an open page: leave what is in the frame, it reconnects.
  else if (editor.getAttribute("src") && !dead) return;
  const text = now === "queued" ? texts.queued.replace("{}", seat.editor.position) : texts[now];
  tell(now, text, seat.message ?? "");
}

setInterval(() => {
  visitors();
  if (waking.hidden) return;
  const waited = Math.floor((performance.now() - since) / 1000);
  // Something of the page hangs; the editor may work without it.
  if (step === "opening" && waited > OPENING) return uncover();
  seconds.textContent = waited > 1 && !isDown(step) ? texts.seconds.replace("{}", waited) : "";
}, 500);

// Which parts are shown; on a narrow screen "both" means one above the other.
function view(name) {
  bench.dataset.view = name;
  for (const button of document.querySelectorAll("[data-view]")) button.setAttribute?.("aria-pressed", String(button.dataset.view === name));
  remember("view", name);
}
for (const button of document.querySelectorAll("button[data-view]")) button.addEventListener("click", () => view(button.dataset.view));

const divider = document.getElementById("divider");
function divide(percent) {
  const share = Math.min(80, Math.max(20, Math.round(percent)));
  bench.style.setProperty("--share", `${share}%`);
  divider.setAttribute("aria-valuenow", String(share));
  remember("share", share);
}
divider.addEventListener("pointerdown", (event) => {
  divider.setPointerCapture(event.pointerId);
  bench.classList.add("dragging");
});
divider.addEventListener("pointermove", (event) => {
  if (!divider.hasPointerCapture(event.pointerId)) return;
  const box = bench.getBoundingClientRect();
  const upright = getComputedStyle(bench).flexDirection === "column";
  divide(upright ? ((event.clientY - box.top) / box.height) * 100 : ((event.clientX - box.left) / box.width) * 100);
});
divider.addEventListener("lostpointercapture", () => bench.classList.remove("dragging"));
divider.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -2, ArrowUp: -2, ArrowRight: 2, ArrowDown: 2 }[event.key];
  if (by) { event.preventDefault(); divide(Number(divider.getAttribute("aria-valuenow")) + by); }
});

function remember(key, value) { try { localStorage.setItem(`arena-${key}`, value); } catch { /* storage is off */ } }
function recall(key) { try { return localStorage.getItem(`arena-${key}`); } catch { return null; } }
if (recall("share")) divide(Number(recall("share")));
if (["instructions", "both", "editor"].includes(recall("view"))) view(recall("view"));

const solved = new Set();
function count() {
  const total = Number(progress.dataset.total);
  progress.querySelector("progress").value = solved.size;
  progress.querySelector("span").textContent = `${solved.size}/${total}`;
  progress.querySelector(".sr").textContent = progress.dataset.label.replace("{}", solved.size).replace("{}", total);
  for (const line of document.querySelectorAll("#solved li")) line.dataset.solved = String(solved.has(line.dataset.exercise));
}
on("exercise", (state) => { if (state.solved) { solved.add(state.exercise); count(); } });
on("seat", show);
if ("ready" in editor.dataset) open();
// The seat is no longer on the list of names: the page says so.
on("reload", () => location.reload());
start();

const state = await fetch("/_arena/state").then((answer) => answer.json()).catch(() => null);
if (state) {
  for (const [slug, exercise] of Object.entries(state.exercises)) if (exercise.solved) solved.add(slug);
  count();
  if (state.seat) show(state.seat);
}
