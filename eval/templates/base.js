"use strict";
// What all parts of the script share. Names are only ever written as text, never as markup.

const parts = new Map(); // article -> {article, data, byKey, picked, show, enter}
const ARROWS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

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

function lines(text) {
  return (text || "").split("\n");
}

// Tell a screen reader.
function announce(text) {
  document.getElementById("said").textContent = text;
}

// Many buttons become one stop of the Tab key; arrow keys, Home and End go from one to another.
function roving(box, buttons) {
  const choose = (chosen) => {
    for (const one of buttons()) one.tabIndex = one === chosen ? 0 : -1;
  };
  box.addEventListener("focusin", ({ target }) => {
    if (target.tabIndex < 0 && buttons().includes(target)) choose(target);
  });
  box.addEventListener("keydown", (event) => {
    const shown = buttons().filter((one) => one.checkVisibility());
    const at = shown.indexOf(event.target);
    const to = { Home: 0, End: shown.length - 1 }[event.key] ?? at + (ARROWS[event.key] || 0);
    if (at < 0 || at === to || !shown[to]) return;
    event.preventDefault();
    shown[to].focus();
  });
  const first = () => choose(buttons().find((one) => !one.closest("[hidden]")));
  first();
  return first;
}
