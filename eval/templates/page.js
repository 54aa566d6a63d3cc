// The page: search, contents on narrow screens, and what is folded when it is printed.

const MOST_FOUND = 12;

function places() {
  const found = [];
  for (const [article, part] of parts) {
    const title = article.querySelector("h1").textContent;
    const within = parts.size > 1 ? ` (${title})` : "";
    found.push({ text: title, go: () => article.scrollIntoView() });
    for (const section of article.querySelectorAll("section")) {
      const text = section.querySelector("h2").textContent + within;
      found.push({ text, go: () => section.scrollIntoView() });
    }
    for (const figure of article.querySelectorAll("figure")) {
      const text = `Picture: ${figure.querySelector("svg").getAttribute("aria-label")}${within}`;
      found.push({ text, go: () => figure.scrollIntoView() });
    }
    for (const { id, facts } of part.data.clients || []) {
      const [name, value] = facts[0];
      found.push({ text: `client ${id}${name === "domain" ? `, ${value}` : ""}${within}`, go: () => pick(part, `c${id}`) });
    }
    for (const { key, name, family } of part.data.methods || []) {
      const go = () => {
        if (!part.picked.has(key)) pick(part, key);
        part.article.querySelector('[data-explores="methods"]').scrollIntoView();
      };
      found.push({ text: `${name}: ${family}${within}`, go });
    }
  }
  return found;
}

function search() {
  const all = places();
  const [input, list, count] = ["find", "found", "found-count"].map((id) => document.getElementById(id));
  const update = () => {
    const sought = input.value.trim().toLowerCase();
    const words = sought.split(/\s+/);
    const rank = ({ text }) => (text.toLowerCase() === sought ? -1 : text.toLowerCase().indexOf(words[0]));
    const hits = sought
      ? all.filter(({ text }) => words.every((word) => text.toLowerCase().includes(word))).sort((a, b) => rank(a) - rank(b))
      : [];
    list.replaceChildren(...hits.slice(0, MOST_FOUND).map(({ text, go }) => {
      const button = make("button", { type: "button" }, text);
      button.addEventListener("click", () => {
        input.value = "";
        update();
        go();
      });
      return make("li", {}, button);
    }));
    count.textContent = sought ? `${hits.length} found` : "";
  };
  input.addEventListener("input", update);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && list.firstChild) list.querySelector("button").click();
    if (event.key === "Escape") {
      input.value = "";
      update();
    }
  });
  document.getElementById("search").hidden = false;
}

search();

const contents = document.querySelector("nav > details");
const narrow = window.matchMedia("(max-width: 1289px)");
const fold = () => { contents.open = !narrow.matches; };
fold();
narrow.addEventListener("change", fold);
contents.addEventListener("click", (event) => {
  if (narrow.matches && event.target.closest("a")) contents.open = false;
});

// Of a picture whose axis leaves something out, the one with the whole axis takes its place.
for (const folded of document.querySelectorAll("details.whole")) {
  const bulk = folded.previousElementSibling;
  const whole = folded.querySelector(".plot");
  const button = make("button", { type: "button", "aria-pressed": "false" }, "Whole axis");
  button.addEventListener("click", () => {
    bulk.hidden = whole.hidden;
    whole.hidden = !whole.hidden;
    button.setAttribute("aria-pressed", bulk.hidden);
  });
  whole.hidden = true;
  bulk.after(whole);
  bulk.before(make("p", { class: "axis" }, button));
  folded.remove();
}

// What is wider than the page says so, and has a shadow on the side where there is more.
function mark(scroll) {
  const left = scroll.scrollLeft;
  const more = scroll.scrollWidth - scroll.clientWidth - left;
  scroll.classList.toggle("left", left > 2);
  scroll.classList.toggle("right", more > 2);
}

const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const wide = target.scrollWidth > target.clientWidth + 2;
    const word = target.previousElementSibling;
    const said = word && word.className === "sideways";
    if (wide && !said) target.before(make("p", { class: "sideways", "aria-hidden": "true" }, "\u2194 scrolls sideways"));
    if (!wide && said) word.remove();
    mark(target);
  }
});
for (const scroll of document.querySelectorAll("main .scroll")) {
  sizes.observe(scroll);
  scroll.addEventListener("scroll", () => mark(scroll), { passive: true });
}

let closed = [];
window.addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("main details:not([open])")];
  for (const one of closed) one.open = true;
});
window.addEventListener("afterprint", () => {
  for (const one of closed) one.open = false;
});
