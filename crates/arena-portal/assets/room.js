// The facilitators' room: tiles change as they come.
import { countdown, on, start } from "./live.js";

const room = document.getElementById("room");
const seats = document.getElementById("seats");

function fill(tile) {
  const tr = seats.querySelector(`[data-seat="${CSS.escape(tile.seat)}"]`);
  if (!tr) return location.reload();
  const field = (name) => tr.querySelector(`[data-field="${name}"]`);
  if (tr.dataset.taken !== String(tile.taken)) room.dataset.stale = "1";
  tr.dataset.taken = tile.taken;
  tr.dataset.trouble = tile.trouble;
  field("name").textContent = tile.name;
  field("hidden").hidden = !tile.excluded;
  field("progress").value = tile.solved;
  field("solved").textContent = tile.solved;
  field("failure").textContent = tile.failure ?? "";
  field("message").textContent = tile.message ?? "";
  field("remedy").hidden = !tile.failed;
  if (tile.last_activity) field("activity").dateTime = tile.last_activity;
  for (const name of ["seat_state", "editor", "app", "database"]) {
    field(name).dataset.state = tile[name];
    field(name).lastElementChild.textContent = tile[name];
  }
  field("database_use").textContent = tile.database_use;
  const restored = field("restored");
  if (restored) restored.hidden = !tile.restored;
  field("postgres_use").textContent = tile.postgres_use;
  const slow = field("database_slow");
  slow.hidden = tile.database_slow.length === 0;
  slow.lastElementChild.replaceChildren(...tile.database_slow.map((line) => {
    const item = document.createElement("li");
    item.appendChild(document.createElement("code")).textContent = line;
    return item;
  }));
  for (const form of tr.querySelectorAll("[data-when]")) form.hidden = (form.dataset.when === "hidden") !== tile.excluded;
}

function ages() {
  for (const time of document.querySelectorAll("#seats time, #waitlist time")) {
    if (!time.dateTime) continue;
    const minutes = Math.floor((Date.now() - Date.parse(time.dateTime)) / 60_000);
    time.textContent = minutes < 1 ? room.dataset.justNow
      : minutes < 60 ? room.dataset.minutes.replace("{}", minutes)
      : room.dataset.hours.replace("{}", Math.floor(minutes / 60));
    time.title = new Date(time.dateTime).toLocaleString();
  }
}

// Who waits for a seat, first come first.
const waitlist = document.getElementById("waitlist");
function wait(entries) {
  const list = waitlist.querySelector("ol");
  const pattern = waitlist.querySelector("template").content.firstElementChild;
  const known = new Map([...list.children].map((line) => [line.dataset.id, line]));
  list.replaceChildren(...entries.map((entry) => known.get(String(entry.id)) ?? line(entry, pattern)));
  waitlist.querySelector("[data-count]").textContent = entries.length;
  waitlist.hidden = entries.length === 0;
  ages();
}
function line(entry, pattern) {
  const item = pattern.cloneNode(true);
  item.dataset.id = entry.id;
  item.querySelector("bdi").textContent = entry.name;
  item.querySelector("time").dateTime = entry.at;
  for (const form of item.querySelectorAll("form")) form.action = `/admin/waiting/${entry.id}/${form.dataset.action}`;
  for (const named of item.querySelectorAll("[data-label]")) named.setAttribute("aria-label", named.dataset.label.replace("{}", entry.name));
  return item;
}

const tests = document.getElementById("tests");
function tested(all) {
  const pattern = tests.querySelector("template").content.firstElementChild;
  tests.querySelector("tbody").replaceChildren(...all.map((test) => {
    const row = pattern.cloneNode(true);
    const [, verdict, troubles, latency] = row.children;
    row.dataset.good = test.good;
    row.querySelector("bdi").textContent = test.name;
    verdict.textContent = test.good ? tests.dataset.fine : tests.dataset.troubles;
    troubles.textContent = test.troubles.join(", ");
    latency.textContent = test.latency_ms === null ? "" : `${test.latency_ms} ms`;
    const time = row.querySelector("time");
    time.dateTime = test.at;
    time.textContent = new Date(test.at).toLocaleTimeString();
    return row;
  }));
  tests.querySelector("[data-count]").textContent = all.length;
}

let filter = "all";
const search = document.getElementById("search");
function sift() {
  const wanted = search.value.trim().toLowerCase();
  for (const tr of seats.children) {
    const named = `${tr.querySelector(".name").textContent}`.toLowerCase().includes(wanted);
    tr.hidden = !named || (filter === "taken" && tr.dataset.taken !== "true") || (filter === "trouble" && tr.dataset.trouble !== "true");
  }
}
search.addEventListener("input", sift);
for (const chip of document.querySelectorAll(".chip")) {
  chip.addEventListener("click", () => {
    filter = chip.dataset.filter;
    for (const other of document.querySelectorAll(".chip")) other.setAttribute("aria-pressed", String(other === chip));
    sift();
  });
}
for (const time of document.querySelectorAll(".log time")) time.textContent = new Date(time.dateTime).toLocaleTimeString();

const clock = document.getElementById("countdown");
countdown(clock, room.dataset, clock.dataset.close);
on("leaderboard", (board) => countdown(clock, room.dataset, board.close_on, Date.parse(board.now) - Date.now()));
on("room", (tiles) => { tiles.forEach(fill); ages(); sift(); });
on("waiting", wait);
on("connections", tested);
on("reload", () => location.reload());
ages();
setInterval(ages, 15_000);
start();
