"use strict";
// Marks of pictures: what the pointer is told over them, and what a click on them picks.
// A part of the page (an article) has keys: c3 is client 3, m1 a method. Names are only ever
// written as text, never as markup.

const tipBox = document.getElementById("tip");
const RING = [[0, 0], [0, -4], [0, 4], [-4, 0], [4, 0], [0, -8], [0, 8], [-8, 0], [8, 0]];
const parts = new Map(); // article -> {data, byKey, picked, show}

function make(tag, given, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given || {})) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const svgSpace = (document.querySelector("svg") || document.body).namespaceURI;

function draw(tag, given, ...children) {
  const element = document.createElementNS(svgSpace, tag);
  for (const [name, value] of Object.entries(given)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function pointsOf(mark) {
  return [...mark.querySelectorAll("use, path")].filter((one) => !one.closest("defs"));
}

function lines(text) {
  return (text || "").split("\n");
}

function markAt(svg, x, y) {
  for (const [dx, dy] of RING) {
    for (const hit of document.elementsFromPoint(x + dx, y + dy)) {
      const mark = hit.closest(".mark");
      if (mark && svg.contains(mark)) return { mark, hit, x: x + dx, y: y + dy };
    }
  }
  return null;
}

// Which of a mark's tips is meant: of a point its own, along a line the nearest corner's.
function whichTip(mark, hit, x, count) {
  const points = pointsOf(mark);
  if (points.length === count) return Math.max(0, points.indexOf(hit));
  const numbers = points[0].getAttribute("d").match(/-?[\d.]+/g).map(Number);
  const at = new DOMPoint(x, 0).matrixTransform(points[0].getScreenCTM().inverse()).x;
  let best = 0;
  for (let i = 0; i < count; i++) {
    if (Math.abs(numbers[2 * i] - at) < Math.abs(numbers[2 * best] - at)) best = i;
  }
  return best;
}

function told({ mark, hit, x, y }) {
  const { tip, key, say, cells } = mark.dataset;
  if (cells) {
    const [rows, columns] = [lines(mark.dataset.rows), lines(mark.dataset.columns)];
    const box = mark.getBoundingClientRect();
    const place = (share, many) => Math.min(many - 1, Math.max(0, Math.floor(share * many)));
    const row = place((y - box.top) / box.height, rows.length);
    const column = place((x - box.left) / box.width, columns.length);
    const names = { row: rows[row], column: columns[column] };
    names.cell = lines(cells)[row].split(" ")[column];
    const text = say.replace(/\{(row|column|cell)\}/g, (_, name) => names[name]);
    return { text, key: lines(key)[column] };
  }
  const [tips, keys] = [lines(tip), lines(key)];
  const at = tips.length > 1 ? whichTip(mark, hit, x, tips.length) : 0;
  return { text: tips[at], key: keys.length > 1 ? keys[at] : keys[0] };
}

function showTip(text, x, y) {
  tipBox.textContent = text;
  tipBox.hidden = false;
  const box = tipBox.getBoundingClientRect();
  const left = Math.min(x + 14, window.innerWidth - box.width - 6);
  const above = y - box.height - 12;
  tipBox.style.left = `${Math.max(6, left)}px`;
  tipBox.style.top = `${above > 6 ? above : y + 18}px`;
}

function hideTip() {
  tipBox.hidden = true;
}

// What stands for each key of a part: whole marks, single points of a mark, and rows.
function index(article) {
  const byKey = new Map();
  const add = (key, element) => key && byKey.set(key, [...(byKey.get(key) || []), element]);
  for (const mark of article.querySelectorAll(".mark[data-key]:not([data-cells])")) {
    const keys = lines(mark.dataset.key);
    if (keys.length === 1) add(keys[0], mark);
    else {
      mark.classList.add("many");
      pointsOf(mark).forEach((point, i) => add(keys[i], point));
    }
  }
  for (const row of article.querySelectorAll("tr[data-key]")) add(row.dataset.key, row);
  return byKey;
}

function paint(part, keys) {
  for (const old of part.article.querySelectorAll(".on")) old.classList.remove("on");
  for (const svg of part.article.querySelectorAll("svg.picking")) svg.classList.remove("picking");
  for (const key of keys) {
    for (const element of part.byKey.get(key) || []) {
      element.classList.add("on");
      const svg = element.closest("svg");
      if (svg) svg.classList.add("picking");
    }
  }
  for (const chip of part.article.querySelectorAll(".chips button")) {
    chip.setAttribute("aria-pressed", part.picked.has(chip.dataset.key));
  }
}

// Pick a key for good: one client at a time, any number of methods.
function pick(part, key) {
  if (!key) return;
  if (key.startsWith("c")) {
    part.picked = new Set([key]);
    if (part.show) part.show(Number(key.slice(1)));
  } else if (!part.picked.delete(key)) part.picked.add(key);
  paint(part, part.picked);
}

function clear(part) {
  part.picked = new Set();
  paint(part, part.picked);
}

for (const article of document.querySelectorAll("article")) {
  const source = article.querySelector(':scope > script[type="application/json"]');
  const data = source ? JSON.parse(source.textContent) : {};
  const part = { article, data, byKey: index(article), picked: new Set(), show: null };
  parts.set(article, part);
  let hovered = "";
  article.addEventListener("pointermove", (event) => {
    const svg = event.target.closest("svg");
    const found = svg && markAt(svg, event.clientX, event.clientY);
    const { text, key } = found ? told(found) : { text: "", key: "" };
    if (text) showTip(text, event.clientX, event.clientY);
    else hideTip();
    const now = key && key.startsWith("m") ? key : "";
    if (now !== hovered) paint(part, now ? [...part.picked, now] : part.picked);
    hovered = now;
  });
  article.addEventListener("pointerleave", () => {
    hideTip();
    if (hovered) paint(part, part.picked);
    hovered = "";
  });
  article.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-key]");
    if (row) return pick(part, row.dataset.key);
    const svg = event.target.closest("svg");
    const found = svg && markAt(svg, event.clientX, event.clientY);
    if (!found) return undefined;
    const { text, key } = told(found);
    showTip(text, event.clientX, event.clientY);
    return pick(part, key);
  });
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  hideTip();
  for (const part of parts.values()) clear(part);
});
document.addEventListener("scroll", hideTip, { passive: true, capture: true });
