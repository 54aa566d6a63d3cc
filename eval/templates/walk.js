// Marks by keyboard: a picture is one stop of the Tab key, and arrow keys walk over its marks.
// Left and right go along a line (points of one kind, a curve, bars of one look, a row of a heat
// map), and up and down to the line above or below.

let walk = null; // where the keyboard stands: {part, plot, svg, all, line, at, ring}

// A mark's lines: {count, at(i) -> {text, key, box}}.
function linesOf(mark) {
  if (mark.dataset.cells) {
    const { rows, columns } = mapOf(mark);
    const [high, wide] = [rows.length, columns.length];
    return rows.map((_, row) => ({
      count: wide,
      at: (column) => {
        const { left, top, width, height } = mark.getBoundingClientRect();
        const place = [left + (width * column) / wide, top + (height * row) / high];
        return { ...cellOf(mark, row, column), box: new DOMRect(...place, width / wide, height / high) };
      },
    }));
  }
  const [tips, keys, points] = [lines(mark.dataset.tip), lines(mark.dataset.key), pointsOf(mark)];
  const box = (i) => {
    if (tips.length === 1) return mark.getBoundingClientRect();
    if (points.length === tips.length) return points[i].getBoundingClientRect();
    const [x, y] = corners(points[0]).slice(2 * i, 2 * i + 2);
    if (y === undefined) return mark.getBoundingClientRect();
    const corner = new DOMPoint(x, y).matrixTransform(points[0].getScreenCTM());
    return new DOMRect(corner.x, corner.y, 0, 0);
  };
  const at = (i) => ({ text: tips[i], key: keys.length > 1 ? keys[i] : keys[0], box: box(i) });
  return [{ count: tips.length, at }];
}

function joined(one, other) {
  const at = (i) => (i < one.count ? one.at(i) : other.at(i - one.count));
  return { count: one.count + other.count, at };
}

// All lines of a picture, panel by panel and from top to bottom.
function allLines(svg) {
  const panels = [...svg.querySelector(":scope > g").children];
  const found = [];
  let last = "";
  for (const mark of svg.querySelectorAll(".mark:not([data-echo])")) {
    const panel = panels.findIndex((one) => one.contains(mark));
    const bar = mark.dataset.tip && !mark.dataset.tip.includes("\n") && mark.querySelector(":scope > path");
    const look = bar ? `${panel} ${bar.getAttribute("style")}` : "";
    const made = linesOf(mark);
    if (look && look === last) {
      const whole = found[found.length - 1];
      whole.line = joined(whole.line, made[0]);
    } else found.push(...made.map((line) => ({ line, panel })));
    last = look;
  }
  for (const one of found) one.y = one.line.at(one.line.count - 1).box.top;
  found.sort((a, b) => a.panel - b.panel || a.y - b.y);
  return found.map(({ line }) => line);
}

function stop() {
  return walk.all[walk.line].at(walk.at);
}

// Put the ring around the mark, in the picture's own coordinates.
function encircle() {
  const { left, top, width, height } = stop().box;
  const [zoom, view] = [walk.svg.getScreenCTM().a, walk.svg.getBoundingClientRect()];
  const [wide, high] = [Math.max(12, width + 4), Math.max(12, height + 4)];
  const place = { x: left + width / 2 - wide / 2 - view.left, y: top + height / 2 - high / 2 - view.top, width: wide, height: high };
  for (const [name, value] of Object.entries(place)) walk.ring.setAttribute(name, (value / zoom).toFixed(1));
}

function tellStop() {
  const { text, box } = stop();
  showTip(text, box.left + box.width / 2, box.top);
}

function stand() {
  const { text, key } = stop();
  encircle();
  walk.ring.scrollIntoView({ block: "nearest", inline: "nearest", behavior: "instant" });
  tellStop();
  announce(text);
  hint(walk.part, key);
}

function leave() {
  if (!walk) return;
  walk.ring.remove();
  paint(walk.part, walk.part.picked);
  walk = null;
  hideTip();
}

function move(key) {
  const { all } = walk;
  const along = { ArrowRight: 1, ArrowLeft: -1 }[key];
  if (along) {
    walk.at += along;
    if (walk.at < 0 || walk.at >= all[walk.line].count) {
      walk.line = (walk.line + along + all.length) % all.length;
      walk.at = along > 0 ? 0 : all[walk.line].count - 1;
    }
  } else if (key === "Home") walk.at = 0;
  else if (key === "End") walk.at = all[walk.line].count - 1;
  else {
    walk.line = (walk.line + ARROWS[key] + all.length) % all.length;
    walk.at = Math.min(walk.at, all[walk.line].count - 1);
  }
}

function onKey(part, plot, event) {
  if (event.target !== plot || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key in ARROWS || event.key === "Home" || event.key === "End") {
    if (walk) move(event.key);
    else {
      const svg = plot.querySelector("svg");
      const all = allLines(svg);
      if (!all.length) return;
      walk = { part, plot, svg, all, line: 0, at: 0, ring: draw("rect", { class: "here", rx: 4 }) };
      svg.append(walk.ring);
    }
    stand();
  } else if (walk && (event.key === "Enter" || event.key === " ")) {
    const { key } = stop();
    if (!key) announce(`${stop().text}. Nothing more is known about it.`);
    pick(part, key);
    if (key && key.startsWith("c") && part.enter) part.enter(plot);
    else hint(part, key);
  } else if (walk && event.key === "Escape") {
    leave();
    event.stopPropagation();
  } else return;
  event.preventDefault();
}

for (const part of parts.values()) {
  for (const plot of part.article.querySelectorAll(".plot")) {
    plot.setAttribute("role", "application");
    plot.setAttribute("aria-describedby", "keys");
    plot.addEventListener("keydown", (event) => onKey(part, plot, event));
    plot.addEventListener("blur", leave);
    plot.addEventListener("focus", () => {
      if (!plot.matches(":focus-visible")) return;
      const { left, top } = plot.getBoundingClientRect();
      showTip(document.getElementById("keys").textContent, left - 14, top + 12);
    });
  }
}

const tellOrHide = () => (walk ? tellStop() : hideTip());
document.addEventListener("scroll", tellOrHide, { passive: true, capture: true });
