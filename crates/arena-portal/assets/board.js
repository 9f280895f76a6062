// The leaderboard: rows move to their new places; nothing flickers.
import { countdown, on, start } from "./live.js";

const board = document.getElementById("board");
const body = document.getElementById("rows");
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

function cell(row, kind) {
  const tr = document.createElement("tr");
  tr.dataset.seat = row.seat;
  const [rank, name, marks, value] = ["num rank", "name", "marks", "num"].map((kind) => {
    const td = document.createElement("td");
    td.className = kind;
    tr.append(td);
    return td;
  });
  name.append(document.createElement("bdi"));
  const dots = document.createElement("span");
  dots.className = "dots";
  dots.setAttribute("aria-hidden", "true");
  const count = document.createElement("span");
  count.className = "count";
  marks.append(dots, count);
  fill(tr, row, kind);
  return tr;
}

function fill(tr, row, kind) {
  const set = (selector, text) => {
    const element = tr.querySelector(selector);
    if (element.textContent !== String(text)) element.textContent = text;
  };
  set(".rank", row.rank);
  set(".name bdi", row.name);
  set(".count", row.solved);
  set("td:last-child", kind === "timed" ? row.duration : row.points);
  const dots = tr.querySelector(".dots");
  row.marks.forEach((mark, index) => {
    const dot = dots.children[index] ?? dots.appendChild(document.createElement("i"));
    if (mark && !dot.classList.contains("on")) dot.classList.add("on");
    if (!mark) dot.classList.remove("on");
  });
  tr.classList.toggle("own", row.seat === board.dataset.me);
}

function show(data) {
  const before = new Map([...body.children].map((tr) => [tr.dataset.seat, { tr, top: tr.offsetTop, solved: Number(tr.querySelector(".count").textContent) }]));
  const kept = new Set();
  let place = body.firstElementChild;
  for (const row of data.rows) {
    kept.add(row.seat);
    let tr = before.get(row.seat)?.tr;
    if (tr) fill(tr, row, data.kind);
    else tr = cell(row, data.kind);
    if (tr === place) place = place.nextElementSibling;
    else body.insertBefore(tr, place);
  }
  for (const [seat, { tr }] of before) if (!kept.has(seat)) tr.remove();
  if (!still) move(before, data.rows);
  document.getElementById("joined").textContent = data.joined;
  document.getElementById("empty").hidden = data.rows.length > 0;
  pin(data);
  countdown(document.getElementById("countdown"), board.dataset, data.close_on, Date.parse(data.now) - Date.now());
}

function move(before, rows) {
  for (const row of rows) {
    const tr = body.querySelector(`[data-seat="${CSS.escape(row.seat)}"]`);
    const old = before.get(row.seat);
    if (!old) tr.animate([{ opacity: 0 }, { opacity: 1 }], { duration: 400 });
    else if (old.top !== tr.offsetTop) {
      tr.animate([{ transform: `translateY(${old.top - tr.offsetTop}px)` }, { transform: "none" }], { duration: 600, easing: "cubic-bezier(.2,.8,.2,1)" });
    }
    if (old && row.solved > old.solved) {
      tr.classList.remove("flash");
      void tr.offsetWidth;
      tr.classList.add("flash");
    }
  }
}

// One's own row stays in sight: at the bottom while the real one is out of it.
const pinned = document.getElementById("own");
const seen = new IntersectionObserver(([entry]) => { pinned.hidden = entry.isIntersecting || !pinned.textContent; });

function pin(data) {
  const me = data.me;
  seen.disconnect();
  pinned.hidden = true;
  if (!me) { pinned.textContent = ""; return; }
  pinned.textContent = `${me.rank}. ${board.dataset.you} · ${me.solved} ${board.dataset.of} ${data.total} · ${data.kind === "timed" ? me.duration : `${me.points} ${board.dataset.points}`}`;
  const own = body.querySelector(".own");
  if (own) seen.observe(own);
  else pinned.hidden = false;
}

countdown(document.getElementById("countdown"), board.dataset, board.dataset.close);
on("leaderboard", show);
start();
