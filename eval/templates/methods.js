// A comparison's methods by family: those that are pressed stand out in every picture.

function methodChips(part, box) {
  const families = new Map();
  for (const one of part.data.methods) {
    families.set(one.family, [...(families.get(one.family) || []), one]);
  }
  box.append(make("p", { class: "note" }, "Point at a method to make it stand out; press it to keep it so."));
  for (const [family, members] of families) {
    const chips = make("div", { class: "chips" });
    for (const { key, name } of members) {
      const chip = make("button", { type: "button", "data-key": key, "aria-pressed": "false" }, name);
      chip.addEventListener("click", () => pick(part, key));
      for (const event of ["pointerenter", "focus"]) {
        chip.addEventListener(event, () => hint(part, key));
      }
      for (const event of ["pointerleave", "blur"]) {
        chip.addEventListener(event, () => paint(part, part.picked));
      }
      chips.append(chip);
    }
    box.append(make("fieldset", {}, make("legend", {}, family), chips));
  }
  const none = make("button", { type: "button" }, "Show all alike");
  none.addEventListener("click", () => clear(part));
  box.append(none);
  box.setAttribute("role", "toolbar");
  box.setAttribute("aria-label", "Methods that stand out");
  roving(box, () => [...box.querySelectorAll("button")]);
  box.hidden = false;
}

for (const part of parts.values()) {
  const box = part.article.querySelector('[data-explores="methods"]');
  if (box && part.data.methods && part.data.methods.length > 1) methodChips(part, box);
}
