// Tables: sort by a column, filter by any text in a row.

const LONG = 12; // rows from which a table has a filter
const UNITS = { KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

// The first number of a cell, with its binary unit; NaN for none.
function numberOf(text) {
  const found = text.replace(/[\u2212]/g, "-").match(/^[^\d+-]{0,2}([+-]?\d[\d,]*\.?\d*(?:e[+-]?\d+)?)/i);
  if (!found) return NaN;
  const unit = text.match(/\b([KMG]iB)\b/);
  return Number(found[1].replace(/,/g, "")) * (unit ? UNITS[unit[1]] : 1);
}

function compare(a, b, direction) {
  const [x, y] = [numberOf(a), numberOf(b)];
  const [empty, other] = [["", "-"].includes(a.trim()), ["", "-"].includes(b.trim())];
  if (empty || other) return empty - other; // what is not known is always last
  if (!Number.isNaN(x) && !Number.isNaN(y) && x !== y) return direction * (x - y);
  return direction * a.localeCompare(b, undefined, { numeric: true });
}

function sortBy(table, column, heading, changed) {
  const up = heading.getAttribute("aria-sort") === "descending";
  for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  const body = table.tBodies[0];
  const text = (row) => row.cells[column].textContent;
  const rows = [...body.rows].sort((a, b) => compare(text(a), text(b), up ? 1 : -1));
  body.append(...rows);
  changed();
}

// Rows that pick something do so from the keyboard, too; a table's are one stop of the Tab key.
function rowButtons(table) {
  const buttons = () => [...table.tBodies[0].rows].map((row) => row.querySelector("button"));
  for (const row of table.tBodies[0].rows) {
    if (!row.dataset.key) return () => {};
    const name = row.cells[0];
    name.replaceChildren(make("button", { type: "button" }, name.textContent));
  }
  return roving(table.tBodies[0], buttons);
}

function filterOf(table, changed) {
  const rows = [...table.tBodies[0].rows];
  const status = make("span", { role: "status" });
  const input = make("input", { type: "search", autocomplete: "off" });
  input.setAttribute("aria-label", `Filter rows of: ${table.getAttribute("aria-label")}`);
  input.placeholder = "filter rows";
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    status.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
    changed();
  });
  return make("div", { class: "filter" }, input, status);
}

for (const table of document.querySelectorAll("article table")) {
  const count = table.tBodies[0].rows.length;
  const changed = count ? rowButtons(table) : () => {};
  if (count < 2) continue;
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = make("button", { type: "button" }, heading.textContent);
    button.title = "Sort by this column";
    button.addEventListener("click", () => sortBy(table, column, heading, changed));
    heading.replaceChildren(button);
  });
  if (count > LONG) table.parentNode.before(filterOf(table, changed));
}
