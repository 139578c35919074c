"use strict";
/* The panel with the details of a box, and the legend. */

const CODE = ["equation", "source", "value", "gradient"]; // headings whose text is set in one width

function htmlElement(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

function fillPanel(panel, box, kindWords) {
  const [first, ...rest] = box.lines;
  const heading = htmlElement("h2", first?.[0] ?? kindWords);
  const list = document.createElement("dl");
  for (const [name, texts] of [...restOf(rest), ...box.details]) {
    list.append(htmlElement("dt", name));
    const looks = [CODE.includes(name) ? "code" : "", ["value", "gradient"].includes(name) ? name : ""].join(" ").trim();
    for (const text of texts) list.append(htmlElement("dd", text, looks));
  }
  panel.replaceChildren(heading, htmlElement("div", kindWords, "kind"), list);
}

/* The lines of the box after its first, unless its details say more. */
function restOf(lines) {
  const plain = lines.filter(([, style]) => style !== "value" && style !== "gradient").map(([text]) => text);
  return plain.length ? [["in the box", plain]] : [];
}

function fillLegend(picture) {
  const kinds = new Set(picture.boxes.map((box) => box.kind));
  for (const group of picture.groups) kinds.add(group.kind);
  if (picture.groups.length && kinds.has("gradient")) kinds.add("gradients");
  const samples = Object.keys(picture.kinds).filter((kind) => kinds.has(kind)).map((kind) => {
    const drawing = element("svg", { width: 40, height: 26, viewBox: "-26 -17 52 34", "aria-hidden": "true" });
    const shape = element("g", { class: `box kind-${kind}` }, ...SHAPES[kind](40, kind === "output" ? 22 : 20));
    drawing.append(shape);
    const item = document.createElement("li");
    item.append(drawing, picture.kinds[kind]);
    return item;
  });
  document.getElementById("samples").replaceChildren(...samples);
  const notes = picture.notes.map(([text, style]) => htmlElement("span", text, `line ${style}`));
  document.getElementById("notes").replaceChildren(...notes);
}
