"use strict";
/* Boxes, arrows and frames as SVG elements. */

const SVG = "http://www.w3.org/2000/svg";
const TEXT_SIZES = { quiet: 10.5 };
const TEXT_SIZE = 12.5; // pixels
const LINE_SPACING = 1.3;
const FONT_FAMILY = 'system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif';
const SLANT = 12; // of the hexagon of a gradient
const STACK = 4; // how far each leaf of a folded block stands out behind the one before it
const MARKS = { forward: "dark", gradient: "red", reuse: "pale", update: "dark" };

/* An element with attributes and children; text is always text. */
function element(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const measuring = document.createElement("canvas").getContext("2d");

function textWidth([text, style]) {
  const slant = style === "italic" || style === "gradient" ? "italic" : "normal";
  measuring.font = `${slant} ${style === "bold" ? 700 : 400} ${TEXT_SIZES[style] ?? TEXT_SIZE}px ${FONT_FAMILY}`;
  return measuring.measureText(text).width;
}

function textSize(lines) {
  const height = lines.reduce((sum, [, style]) => sum + (TEXT_SIZES[style] ?? TEXT_SIZE) * LINE_SPACING, 0);
  return { width: Math.max(0, ...lines.map(textWidth)), height };
}

/* Lines one under the other; `anchor` says on which side of x. */
function textBlock(lines, x, top, anchor = "middle") {
  const text = element("text", { "text-anchor": anchor });
  let y = top;
  for (const [letters, style] of lines) {
    const size = TEXT_SIZES[style] ?? TEXT_SIZE;
    const line = element("tspan", { x, y: y + size * (0.5 + LINE_SPACING / 2) - size * 0.2, class: `line ${style}` });
    line.textContent = letters;
    text.append(line);
    y += size * LINE_SPACING;
  }
  return text;
}

// --- Boxes ---------------------------------------------------------------------------------------------------------

/* What a shape needs around its text: [pixels at the sides, pixels above, pixels below]; a stack more. */
const MARGINS = {
  input: [20, 9, 9],
  param: [12, 17, 6],
  state: [12, 14, 10],
  constant: [13, 7, 7],
  op: [13, 7, 7],
  block: [14, 8, 8],
  output: [16, 10, 10],
  gradient: [20, 7, 7],
  gradients: [18, 8, 8],
  kernel: [13, 8, 8],
  contraction: [18, 8, 8],
  removed: [13, 7, 7],
  added: [14, 8, 8],
};

function boxSize(box) {
  const text = textSize(box.lines);
  const [side, above, below] = MARGINS[box.kind];
  const behind = stackOf(box.kind);
  return { width: Math.max(38, text.width + 2 * side) + behind, height: text.height + above + below + behind };
}

/* The outline of each kind of box of a width w and a height h, its middle at 0, 0. */
const SHAPES = {
  input: (w, h) => [element("ellipse", { rx: w / 2, ry: h / 2 })],
  param: (w, h) => [polygon([-w / 2, h / 2], [-w / 2, 11 - h / 2], [0, -h / 2], [w / 2, 11 - h / 2], [w / 2, h / 2])],
  state: (w, h) => {
    const [x, y] = [w / 2, h / 2 - 5];
    const lid = `M${-x},${-y}A${x},5 0 0 1 ${x},${-y}`;
    return [
      element("path", { d: `${lid}V${y}A${x},5 0 0 1 ${-x},${y}Z` }),
      element("path", { d: `M${-x},${-y}A${x},5 0 0 0 ${x},${-y}`, class: "inner" }),
    ];
  },
  constant: (w, h) => [
    polygon([-w / 2, -h / 2], [w / 2 - 9, -h / 2], [w / 2, 9 - h / 2], [w / 2, h / 2], [-w / 2, h / 2]),
    element("path", { d: `M${w / 2 - 9},${-h / 2}v9h9`, class: "inner" }),
  ],
  op: (w, h) => [rectangle(w, h, 8)],
  block: (w, h) => stack(w, h, 0),
  output: (w, h) => [rectangle(w, h, 0), rectangle(w - 7, h - 7, 0, "inner")],
  gradient: (w, h) => [hexagon(-w / 2, -h / 2, w, h, SLANT)],
  gradients: (w, h) => stack(w, h, SLANT),
  kernel: (w, h) => [rectangle(w, h, 0)],
  contraction: (w, h) => [
    rectangle(w, h, 0),
    element("path", { d: `M${6 - w / 2},${-h / 2}v${h}M${w / 2 - 6},${-h / 2}v${h}`, class: "inner" }),
  ],
  removed: (w, h) => [rectangle(w, h, 8)],
  added: (w, h) => [rectangle(w, h, 8)],
};

/* Three leaves: those behind stand out at the top and on the right. */
function stack(w, h, slant) {
  const [width, height] = [w - 2 * STACK, h - 2 * STACK];
  return [2, 1, 0].map((back) => hexagon(back * STACK - w / 2, (2 - back) * STACK - h / 2, width, height, slant));
}

/* How far a kind's leaves stand out. */
function stackOf(kind) {
  return kind === "block" || kind === "gradients" ? 2 * STACK : 0;
}

function hexagon(x, y, w, h, slant) {
  const [middle, right, bottom] = [y + h / 2, x + w, y + h];
  return polygon(
    [x, middle], [x + slant, y], [right - slant, y], [right, middle], [right - slant, bottom], [x + slant, bottom],
  );
}

function polygon(...points) {
  return element("polygon", { points: points.join(" ") });
}

function rectangle(w, h, rx, name = "") {
  return element("rect", { x: -w / 2, y: -h / 2, width: w, height: h, rx, class: name });
}

function boxElement(box, place, kindWords) {
  const names = box.lines.map(([text]) => text).join(", ");
  const made = element("g", {
    class: `box kind-${box.kind}`,
    transform: `translate(${place.x},${place.y})`,
    tabindex: 0,
    role: "button",
    "aria-label": `${kindWords}: ${names}${box.groupKey === undefined ? "" : "; Enter unfolds it"}`,
  });
  [made.dataset.id, made.dataset.half] = [box.id, box.half];
  if (box.groupKey !== undefined) {
    made.dataset.group = box.groupKey;
    made.setAttribute("aria-expanded", "false");
  }
  const [, above] = MARGINS[box.kind];
  const behind = stackOf(box.kind);
  made.append(...SHAPES[box.kind](box.width, box.height));
  made.append(textBlock(box.lines, -behind / 2, behind + above - box.height / 2));
  if (box.groupKey !== undefined) {
    const slant = box.kind === "gradients" ? SLANT - 3 : 0;
    const [x, y] = [box.width / 2 - behind - slant - 7, box.height / 2 - 7];
    made.append(element("path", { d: `M${x - 3.5},${y}h7M${x},${y - 3.5}v7`, class: "inner" }));
  }
  if (box.isShared) {
    const title = element("title");
    title.textContent = "shared: more than one line asked for it";
    const mark = element("g", { class: "shared", transform: `translate(${box.width / 2 - 4},${-box.height / 2})` });
    mark.append(element("circle", { r: 6.5 }), element("path", { d: "M-3,-2.5L0,1V4M3,-2.5L0,1" }), title);
    made.append(mark);
  }
  return made;
}

// --- Arrows and frames ---------------------------------------------------------------------------------------------

/* The room of an arrow's label, as much on one side of the arrow as on the other; null where nothing is written. */
function labelSize(arrow, direction) {
  if (!arrow.above.length && !arrow.below.length) return null;
  const [above, below] = [textSize(arrow.above), textSize(arrow.below)];
  const [width, height] = [Math.max(above.width, below.width), Math.max(above.height, below.height)];
  return direction === "LR" ? { width: width + 8, height: 2 * height + 6 } : { width: 2 * width + 14, height };
}

function arrowElement(arrow, drawn, direction) {
  const made = element("g", { class: `arrow role-${arrow.role}` });
  made.append(element("path", { d: drawn.path, "marker-end": `url(#head-${MARKS[arrow.role]})` }));
  if (drawn.label) {
    const { x, y } = drawn.label;
    const [above, below] = [textSize(arrow.above), textSize(arrow.below)];
    if (direction === "LR") {
      made.append(textBlock(arrow.above, x, y - above.height - 3), textBlock(arrow.below, x, y + 3));
    } else {
      made.append(textBlock(arrow.above, x - 6, y - above.height / 2, "end"));
      made.append(textBlock(arrow.below, x + 6, y - below.height / 2, "start"));
    }
  }
  return made;
}

function titleOf(group, half) {
  return half === "forward" ? group.title : `gradients of ${group.title}`;
}

function titleWidth(group) {
  return textWidth([`▾ ${titleOf(group, "gradient")}`, "plain"]) + 22;
}

function frameElement(frame) {
  const { x, y, width, height, key, half } = frame;
  return element("rect", { class: `frame ${half}`, x, y, width, height, rx: 7, "data-group": key, "data-half": half });
}

function titleElement(frame, group) {
  const name = titleOf(group, frame.half);
  const made = element("g", {
    class: "title",
    transform: `translate(${frame.x},${frame.y})`,
    tabindex: 0,
    role: "button",
    "aria-expanded": "true",
    "aria-label": `${name}; Enter folds it`,
  });
  [made.dataset.group, made.dataset.half] = [frame.key, frame.half];
  made.append(element("rect", { x: 3, y: 3, width: textWidth([`▾ ${name}`, "plain"]) + 12, height: 18, rx: 4 }));
  made.append(textBlock([[`▾ ${name}`, "frame-title"]], 9, 3, "start"));
  return made;
}

function arrowHeads() {
  return element("defs", {}, ...["dark", "red", "pale"].map((name) => {
    const size = { viewBox: "0 0 10 10", refX: 9.5, refY: 5, markerWidth: 8, markerHeight: 8, orient: "auto" };
    return element("marker", { id: `head-${name}`, markerUnits: "userSpaceOnUse", ...size },
      element("path", { d: "M0,1L10,5L0,9Z", class: `head-${name}` }));
  }));
}
