"use strict";
/* The panel with the details of a box, and the legend. */

const CODE = ["equation", "source", "value", "gradient"]; // headings whose text is set in one width

function htmlElement(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

/* `known`: which of the box's numbers may be told at the present step. */
function fillPanel(panel, box, kindWords, known) {
  const [first, ...rest] = box.lines.filter(([, style]) => !isNumber(style)).map(([text]) => text);
  const list = document.createElement("dl");
  for (const [name, texts] of box.details) {
    if (known[name] === false) continue;
    const told = texts.filter((text) => name || ![first, ...rest].includes(text));
    if (name) list.append(htmlElement("dt", name));
    const looks = [CODE.includes(name) ? "code" : "", isNumber(name) ? name : ""].join(" ").trim();
    for (const text of told) list.append(htmlElement("dd", text, looks));
  }
  const heading = htmlElement("h2", first ?? kindWords);
  panel.replaceChildren(heading, htmlElement("div", [kindWords, ...rest].join(" · "), "kind"), list);
}

function fillLegend(picture) {
  const kinds = new Set(picture.boxes.map((box) => box.kind));
  for (const group of picture.groups) kinds.add(group.kind);
  if (picture.groups.length && kinds.has("gradient")) kinds.add("gradients");
  const samples = Object.keys(picture.kinds).filter((kind) => kinds.has(kind)).map((kind) => {
    const drawing = element("svg", { width: 40, height: 26, viewBox: "-26 -17 52 34", "aria-hidden": "true" });
    const shape = element("g", { class: `sample kind-${kind}` }, ...SHAPES[kind](40 + stackOf(kind), 22 + stackOf(kind)));
    drawing.append(shape);
    const item = document.createElement("li");
    item.append(drawing, picture.kinds[kind]);
    return item;
  });
  document.getElementById("samples").replaceChildren(...samples);
  const notes = picture.notes.map(([text, style]) => htmlElement("span", text, `line ${style}`));
  document.getElementById("notes").replaceChildren(...notes);
}
