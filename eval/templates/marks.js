// Marks of pictures: what the pointer is told over them, and what a click on them picks.
// A part of the page (an article) has keys: c3 is client 3, m1 a method.

const tipBox = document.getElementById("tip");

// Places around a pointer, the nearest first, at which a mark counts as meant.
function around(reach) {
  const found = [[0, 0]];
  for (let far = 4; far <= reach; far += 4) {
    for (let turn = 0; turn < 8; turn++) {
      found.push([far * Math.cos((turn * Math.PI) / 4), far * Math.sin((turn * Math.PI) / 4)]);
    }
  }
  return found;
}

const NEAR = around(8);
const NEAR_A_FINGER = around(20);

function pointsOf(mark) {
  return [...mark.querySelectorAll("use, path")].filter((one) => !one.closest("defs"));
}

function markAt(svg, x, y, near) {
  for (const [dx, dy] of near) {
    for (const hit of document.elementsFromPoint(x + dx, y + dy)) {
      const mark = hit.closest(".mark");
      if (mark && svg.contains(mark)) return { mark, hit, x: x + dx, y: y + dy };
    }
  }
  return null;
}

// Coordinates of a path's corners in its own space: x, y, x, y...
function corners(path) {
  return (path.getAttribute("d") || "").match(/-?[\d.]+/g)?.map(Number) || [];
}

// Which of a mark's tips is meant: of a point its own, along a line the nearest corner's.
function whichTip(mark, hit, x, count) {
  const points = pointsOf(mark);
  if (points.length === count) return Math.max(0, points.indexOf(hit));
  const numbers = corners(points[0]);
  const at = new DOMPoint(x, 0).matrixTransform(points[0].getScreenCTM().inverse()).x;
  let best = 0;
  for (let i = 0; i < count; i++) {
    if (Math.abs(numbers[2 * i] - at) < Math.abs(numbers[2 * best] - at)) best = i;
  }
  return best;
}

// A heat map's names and cells, read once.
const maps = new WeakMap();

function mapOf(mark) {
  if (!maps.has(mark)) {
    const { rows, columns, cells, key, say } = mark.dataset;
    const grid = lines(cells).map((row) => row.split(" "));
    maps.set(mark, { rows: lines(rows), columns: lines(columns), grid, keys: lines(key), say });
  }
  return maps.get(mark);
}

function cellOf(mark, row, column) {
  const { rows, columns, grid, keys, say } = mapOf(mark);
  const names = { row: rows[row], column: columns[column], cell: grid[row][column] };
  return { text: say.replace(/\{(row|column|cell)\}/g, (_, name) => names[name]), key: keys[column] };
}

function told({ mark, hit, x, y }) {
  const { tip, key, cells } = mark.dataset;
  if (cells) {
    const { rows, columns } = mapOf(mark);
    const box = mark.getBoundingClientRect();
    const place = (share, many) => Math.min(many - 1, Math.max(0, Math.floor(share * many)));
    const row = place((y - box.top) / box.height, rows.length);
    return cellOf(mark, row, place((x - box.left) / box.width, columns.length));
  }
  const [tips, keys] = [lines(tip), lines(key)];
  const at = tips.length > 1 ? whichTip(mark, hit, x, tips.length) : 0;
  return { text: tips[at], key: keys.length > 1 ? keys[at] : keys[0] };
}

function showTip(text, x, y, more) {
  tipBox.textContent = text;
  if (more) tipBox.append(make("small", {}, more));
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

// A method stands out while it is pointed at; a client is only picked.
function hint(part, key) {
  paint(part, key && key.startsWith("m") ? [...part.picked, key] : part.picked);
}

// Pick a key for good: one client at a time, any number of methods.
function pick(part, key) {
  if (!key) return;
  if (key.startsWith("c")) {
    part.picked = new Set([key]);
    if (part.show) part.show(Number(key.slice(1)));
  } else {
    const kept = !part.picked.delete(key);
    if (kept) part.picked.add(key);
    const { name } = (part.data.methods || []).find((one) => one.key === key) || {};
    if (name) announce(`${name} ${kept ? "stands out" : "no longer stands out"}.`);
  }
  paint(part, part.picked);
}

function clear(part) {
  part.picked = new Set();
  paint(part, part.picked);
}

function point(part) {
  let hovered = "";
  let tapped = "";
  part.article.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch" || (walk && !event.movementX && !event.movementY)) return;
    const svg = event.target.closest("svg");
    const found = svg && markAt(svg, event.clientX, event.clientY, NEAR);
    const { text, key } = found ? told(found) : { text: "", key: "" };
    if (text) showTip(text, event.clientX, event.clientY);
    else hideTip();
    const now = key && key.startsWith("m") ? key : "";
    if (now !== hovered) hint(part, now);
    hovered = now;
  });
  part.article.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "touch") return;
    hideTip();
    if (hovered) paint(part, part.picked);
    hovered = "";
  });
  // A click picks. A finger has nothing that hovers: its first tap tells, and its second one picks.
  part.article.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-key]");
    if (row) return pick(part, row.dataset.key);
    const svg = event.target.closest("svg");
    const finger = event.pointerType === "touch";
    const found = svg && markAt(svg, event.clientX, event.clientY, finger ? NEAR_A_FINGER : NEAR);
    const before = tapped;
    tapped = "";
    if (!found) {
      if (finger) {
        hideTip();
        if (before) paint(part, part.picked);
      }
      return undefined;
    }
    const { text, key } = told(found);
    if (finger && key && before !== text) {
      tapped = text;
      const then = key.startsWith("c") ? "show this client" : "keep it so";
      showTip(text, event.clientX, event.clientY, `Tap again to ${then}`);
      return hint(part, key);
    }
    showTip(text, event.clientX, event.clientY);
    return pick(part, key);
  });
}

for (const article of document.querySelectorAll("article")) {
  const source = article.querySelector(':scope > script[type="application/json"]');
  const data = source ? JSON.parse(source.textContent) : {};
  const part = { article, data, byKey: index(article), picked: new Set(), show: null, enter: null };
  parts.set(article, part);
  point(part);
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  hideTip();
  for (const part of parts.values()) clear(part);
});
