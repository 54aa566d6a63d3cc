// One client: its curve, the answers of its model, its experts and its attention.

const MANY_CLASSES = 14; // more are shown as a list of mistakes instead of a table

function percentText(value) {
  return `${value.toFixed(1)}%`;
}

function heading(text) {
  return make("h3", {}, text);
}

function factsOf(client) {
  const pairs = client.facts.map(([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, value)));
  return make("dl", { class: "facts" }, ...pairs);
}

// The client's own curve over the mean of all, at the width of the page: texts keep their size.
function curveOf(data, client, width) {
  const [known, averaged] = [client.curve, data.mean].map((curve) =>
    data.rounds.map((_, i) => i).filter((i) => curve[i] !== null));
  if (known.length < 2) return null;
  const [height, left, right, top, bottom] = [210, 44, 92, 12, 34];
  const values = [...known.map((i) => client.curve[i]), ...averaged.map((i) => data.mean[i])];
  const low = Math.max(0, Math.floor(Math.min(...values) / 10) * 10);
  const high = Math.min(100, Math.max(low + 10, Math.ceil(Math.max(...values) / 10) * 10));
  const [first, last] = [data.rounds[0], data.rounds[data.rounds.length - 1]];
  const x = (round) => left + ((width - left - right) * (round - first)) / (last - first);
  const y = (value) => height - bottom - ((height - top - bottom) * (value - low)) / (high - low);
  const said = `Client ${client.id} by round: ${known
    .map((i) => `${data.rounds[i]}: ${percentText(client.curve[i])}`).join(", ")}`;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": said });
  svg.style.maxWidth = `${width}px`;
  for (const value of [low, (low + high) / 2, high]) {
    svg.append(draw("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), stroke: "var(--rule)" }));
    svg.append(draw("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, `${value}%`));
  }
  for (const round of new Set([first, data.rounds[Math.floor(known.length / 2)], last])) {
    svg.append(draw("text", { x: x(round), y: height - bottom + 18, "text-anchor": "middle" }, `${round}`));
  }
  svg.append(draw("text", { x: (left + width - right) / 2, y: height - 2, "text-anchor": "middle" }, "round"));
  const lines = [
    { name: "mean", at: averaged, of: data.mean, colour: 6, dash: "5 3" },
    { name: `client ${client.id}`, at: known, of: client.curve, colour: 0, dash: "none" },
  ].filter((line) => line.at.length);
  const ends = lines.map((line) => y(line.of[line.at[line.at.length - 1]]));
  if (ends.length > 1 && Math.abs(ends[0] - ends[1]) < 15) {
    const middle = (ends[0] + ends[1]) / 2;
    const up = ends[0] <= ends[1] ? 0 : 1;
    ends[up] = middle - 7.5;
    ends[1 - up] = middle + 7.5;
  }
  lines.forEach((line, row) => {
    const places = line.at.map((i) => `${x(data.rounds[i]).toFixed(1)},${y(line.of[i]).toFixed(1)}`);
    const look = { fill: "none", stroke: `var(--series-${line.colour})`, "stroke-dasharray": line.dash };
    svg.append(draw("polyline", { points: places.join(" "), "stroke-width": row ? 2.2 : 1.4, ...look }));
    line.at.forEach((i) => {
      const tip = `${line.name}, round ${data.rounds[i]}: ${percentText(line.of[i])}`;
      const place = { cx: x(data.rounds[i]), cy: y(line.of[i]), fill: `var(--series-${line.colour})` };
      const dot = draw("circle", { ...place, r: row ? 3.5 : 2 });
      svg.append(draw("g", { class: "mark", "data-tip": tip }, dot));
    });
    const label = draw("text", { x: width - right + 8, y: ends[row] + 4 }, line.name);
    label.style.fill = `var(--label-${line.colour})`;
    svg.append(label);
  });
  return make("div", {}, heading("Accuracy by round"), svg);
}

function className(data, label) {
  return label < 0 ? "no answer" : data.classes[label];
}

// A heading of a table; the whole of a long name is its tip.
function classHeading(data, label, scope) {
  const name = className(data, label);
  const heading = make("th", { scope }, name.length > 24 ? `${name.slice(0, 13)}\u2026${name.slice(-10)}` : name);
  if (name.length > 24) heading.title = name;
  return heading;
}

function mistakesOf(data, client) {
  const wrong = client.confusion.filter(([truth, said]) => truth !== said);
  if (!wrong.length) return make("p", {}, "Every answer is right.");
  const most = wrong[0][2];
  return barsOf(wrong.slice(0, 15).map(([truth, said, count]) => ({
    name: `${className(data, truth)} as ${className(data, said)}`, share: count / most, text: `${count}`,
  })), "bars long");
}

// True classes in rows and answers in columns; the stronger a cell, the more of the row.
function confusionOf(data, client) {
  if (!client.confusion) return null;
  const title = heading("Answers by true class");
  const used = new Set(client.confusion.flatMap(([truth, said]) => [truth, said]));
  const classes = [...used].sort((a, b) => a - b);
  if (classes.length > MANY_CLASSES) {
    return make("div", {}, title, make("p", { class: "note" }, "The commonest mistakes, in images:"), mistakesOf(data, client));
  }
  const counts = new Map(client.confusion.map(([truth, said, count]) => [`${truth} ${said}`, count]));
  const corner = make("th", { scope: "col" }, "true, then answer");
  const head = make("tr", {}, corner, ...classes.map((c) => classHeading(data, c, "col")));
  const body = make("tbody");
  for (const truth of classes) {
    const total = classes.reduce((sum, said) => sum + (counts.get(`${truth} ${said}`) || 0), 0);
    if (!total) continue;
    const row = make("tr", {}, classHeading(data, truth, "row"));
    for (const said of classes) {
      const count = counts.get(`${truth} ${said}`) || 0;
      const cell = make("td", {}, count ? `${count}` : "");
      const hue = truth === said ? "--series-0" : "--series-1";
      if (count) cell.style.background = `color-mix(in srgb, var(${hue}) ${Math.round((40 * count) / total)}%, var(--paper))`;
      row.append(cell);
    }
    body.append(row);
  }
  const label = `Answers of client ${client.id}'s model`;
  const table = make("table", { class: "confusion", "aria-label": label }, make("thead", {}, head), body);
  const note = make("p", { class: "note" }, "Images of each true class (rows) by the model's answer (columns).");
  return make("div", {}, title, note, make("div", { class: "scroll", role: "group", tabindex: "0", "aria-label": label }, table));
}

function barsOf(items, look = "bars") {
  const list = make("ul", { class: look });
  for (const { name, share, text, go } of items) {
    const bar = make("span", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${Math.max(0.5, 100 * share)}%`;
    let label = make("span", { class: "name" }, name);
    if (go) {
      label = make("button", { type: "button" }, name);
      label.addEventListener("click", go);
    }
    list.append(make("li", {}, label, bar, make("span", { class: "number" }, text)));
  }
  return list;
}

function expertsOf(part, client) {
  if (!client.experts || !client.experts.length) return null;
  const most = client.experts[0][1];
  const items = client.experts.slice(0, 12).map(([giver, times]) => ({
    name: `client ${giver}`, share: times / most, text: `${times}\u00d7`, go: () => pick(part, `c${giver}`),
  }));
  const left = client.experts.length - items.length;
  const more = left > 0 ? make("p", { class: "note" }, `and ${left} more`) : "";
  return make("div", {}, heading("Experts served"), barsOf(items), more);
}

function attentionOf(part, client) {
  if (!client.attention) return null;
  const items = client.attention.map(([giver, share]) => ({
    name: giver === null ? "its own prompt" : `client ${giver}`, share: share / 100, text: percentText(share),
    go: giver === null ? null : () => pick(part, `c${giver}`),
  }));
  const classes = client.byClass.map(([label, share]) => ({
    name: className(part.data, label), share: share / 100, text: percentText(share),
  }));
  const folded = make("details", {}, make("summary", {}, "To its own prompt, by true class"), barsOf(classes));
  return make("div", {}, heading("Attention of its gate"), barsOf(items), folded);
}

function clientExplorer(part, box) {
  const byId = new Map(part.data.clients.map((one) => [one.id, one]));
  const ids = [...byId.keys()];
  const select = make("select", { id: `${part.article.id}-client` });
  for (const id of ids) select.append(make("option", { value: id }, `client ${id}`));
  const status = make("span", { role: "status", class: "note" });
  const shown = make("div");
  const step = (by) => () => pick(part, `c${ids[(ids.indexOf(Number(select.value)) + by + ids.length) % ids.length]}`);
  const [before, after] = ["Previous", "Next"].map((text) => make("button", { type: "button" }, text));
  before.addEventListener("click", step(-1));
  after.addEventListener("click", step(1));
  const label = make("label", { for: select.id }, "Show");
  box.append(make("div", { class: "choose" }, label, select, before, after, status), shown);
  select.addEventListener("change", () => pick(part, `c${select.value}`));
  box.hidden = false;
  const fill = (client) => {
    const whole = shown.clientWidth || 560;
    const width = Math.max(240, whole >= 632 ? Math.floor((whole - 32) / 2) : whole);
    const halves = [curveOf(part.data, client, width), confusionOf(part.data, client), expertsOf(part, client), attentionOf(part, client)];
    shown.replaceChildren(factsOf(client), make("div", { class: "halves" }, ...halves.filter(Boolean)));
  };
  // Enter on a mark leads here, and Escape back to it.
  let from = null;
  part.enter = (plot) => {
    from = plot;
    select.focus({ preventScroll: true });
  };
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !from) return;
    event.stopPropagation();
    from.focus();
    from = null;
  });
  part.show = (id) => {
    const client = byId.get(id);
    if (!client) return;
    select.value = id;
    fill(client);
    status.textContent = `Client ${id} is shown.`;
    const place = box.getBoundingClientRect();
    if (place.bottom < 80 || place.top > window.innerHeight - 80) box.scrollIntoView({ block: "center" });
  };
  fill(byId.get(ids[0]));
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== width) fill(byId.get(Number(select.value)));
    width = window.innerWidth;
  });
}

for (const part of parts.values()) {
  const box = part.article.querySelector('[data-explores="clients"]');
  if (box && part.data.clients && part.data.clients.length) clientExplorer(part, box);
}
