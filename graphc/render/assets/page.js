"use strict";
/* The page: what is folded, where the view is, what a reader points at, searches and steps to. */

const picture = JSON.parse(document.getElementById("picture").textContent);
const byId = (id) => document.getElementById(id);
const [drawing, view, panel] = [byId("drawing"), byId("view"), byId("panel")];
const groupOf = new Map(picture.groups.map((group) => [group.key, group]));
const boxOf = new Map(picture.boxes.map((box) => [box.id, box]));
const times = timesOf(picture);
const PLAY_PAUSE = 1400; // milliseconds for a step
const ZOOM_STEP = 1.25;
const ZOOM_LIMITS = [0.02, 8];
const PAN_STEP = 60; // pixels
const DRAG_THRESHOLD = 4; // pixels that a click may move
const FIT_MARGIN = 24;
const LEAST_LEGIBLE = 0.62; // of the size of the text
const FIT_LIMIT = 1.4; // small pictures are not blown up

let closed = new Set(picture.groups.filter((group) => group.isFolded).map((group) => group.key));
let scene = null; // what is drawn: {boxes: Map(box -> element), arrows, places, width, ...}
let camera = { x: 0, y: 0, zoom: 1 };
const sequence = { now: null }; // the step that is shown; null for all

// --- Drawing and folding -------------------------------------------------------------------------------------------

function draw() {
  const seen = foldPicture(picture, closed);
  for (const box of seen.boxes) {
    Object.assign(box, boxSize(box), { isSide: isSide(box) });
  }
  for (const arrow of seen.arrows) arrow.label = labelSize(arrow, picture.direction);
  for (const group of seen.groups) group.titleWidth = titleWidth(group);
  const layout = layOut({ ...seen, direction: picture.direction });
  const boxes = new Map(seen.boxes.map((box) => {
    return [box, boxElement(box, layout.boxes.get(box.id), picture.kinds[box.kind])];
  }));
  const titles = layout.frames.map((frame) => titleElement(frame, groupOf.get(frame.key)));
  const arrows = new Map(seen.arrows.map((arrow, at) => {
    return [arrow, arrowElement(arrow, layout.arrows[at], picture.direction)];
  }));
  // Later elements lie on top: frames, arrows that only hint, arrows, then boxes in the order of reading.
  const isHint = ([arrow]) => !takesPart(arrow);
  const hints = [...arrows].filter(isHint).map(([, drawn]) => drawn);
  const others = [...arrows].filter((pair) => !isHint(pair)).map(([, drawn]) => drawn);
  const reading = inReadingOrder(boxes, titles, layout);
  view.replaceChildren(arrowHeads(), ...layout.frames.map(frameElement), ...hints, ...others, ...reading);
  const elementOf = new Map([...boxes].map(([box, drawn]) => [box.id, drawn]));
  const { boxes: places, width, height } = layout;
  scene = { boxes, arrows, elementOf, standsFor: seen.standsFor, places, width, height };
  showStep(scene, times, sequence.now);
  markHits();
  [hovering.hovered, hovering.focused] = [null, null];
  point(null);
}

function isSide(box) {
  const value = box.half === "gradient" ? boxOf.get(box.owner) : box;
  return ["param", "state", "constant"].includes(value?.kind);
}

/* The forward half from the first rank on, then the gradient half from the loss back; a title before what it holds. */
function inReadingOrder(boxes, titles, layout) {
  const isDown = picture.direction === "TB";
  const rows = [...boxes].map(([box, drawn]) => {
    const { x, y, rank } = layout.boxes.get(box.id);
    return { drawn, half: box.half, main: rank, cross: isDown ? x : y };
  });
  titles.forEach((drawn, at) => {
    const { key, half } = layout.frames[at];
    const inside = rows.filter((row) => row.half === half && isInside(row.drawn.dataset, key));
    const ranks = inside.map((row) => row.main);
    rows.push({ drawn, half, main: half === "forward" ? Math.min(...ranks) : Math.max(...ranks), cross: at - 1e6 });
  });
  const sign = (row) => (row.half === "forward" ? 1 : -1);
  rows.sort((a, b) => sign(b) - sign(a) || sign(a) * (a.main - b.main) || a.cross - b.cross);
  return rows.map((row) => row.drawn);
}

function isInside({ id, group }, key) {
  let at = group === undefined ? boxOf.get(id)?.group : groupOf.get(group).parent;
  while (at !== undefined && at !== null && at !== key) at = groupOf.get(at).parent;
  return at === key;
}

/* Folds or unfolds a group; what it becomes takes the place on the screen of what it was, and the focus. */
function toggle(drawn, isKeyboard) {
  const before = middleOf(drawn);
  const { group: key, half } = drawn.dataset;
  if (!closed.delete(key)) closed.add(key);
  draw();
  const isFolded = closed.has(key);
  const target = isFolded
    ? scene.elementOf.get(`${half} ${key}`)
    : view.querySelector(`.title[data-half="${half}"][data-group="${CSS.escape(key)}"]`);
  const frames = [...view.querySelectorAll(`.frame.${half}`)];
  const after = middleOf(isFolded ? target : (frames.find((frame) => frame.dataset.group === key) ?? target));
  moveCamera(before.x - after.x, before.y - after.y);
  if (isKeyboard) target.focus({ preventScroll: true });
}

function middleOf(drawn) {
  const { left, right, top, bottom } = drawn.getBoundingClientRect();
  return { x: (left + right) / 2, y: (top + bottom) / 2 };
}

function foldAll() {
  closed = new Set(groupOf.keys());
  draw();
  fit(LEAST_LEGIBLE);
}

function unfoldLevel() {
  for (const box of scene.boxes.keys()) if (box.groupKey !== undefined) closed.delete(box.groupKey);
  draw();
  fit(LEAST_LEGIBLE);
}

// --- The view ------------------------------------------------------------------------------------------------------

function applyCamera() {
  view.setAttribute("transform", `translate(${camera.x},${camera.y}) scale(${camera.zoom})`);
}

function moveCamera(dx, dy) {
  camera.x += dx;
  camera.y += dy;
  applyCamera();
}

/* Zooms so that the point of the picture under (x, y) of the window stays there. */
function zoomBy(factor, x, y) {
  const zoom = Math.min(ZOOM_LIMITS[1], Math.max(ZOOM_LIMITS[0], camera.zoom * factor));
  const { left, top } = drawing.getBoundingClientRect();
  const ratio = zoom / camera.zoom;
  camera = { x: x - left - (x - left - camera.x) * ratio, y: y - top - (y - top - camera.y) * ratio, zoom };
  applyCamera();
}

function zoomMiddle(factor) {
  const { x, y } = middleOf(drawing);
  zoomBy(factor, x, y);
}

/* Shows the whole picture, or, where that is not to become smaller than `least`, where it begins. */
function fit(least = ZOOM_LIMITS[0]) {
  const { width, height } = drawing.getBoundingClientRect();
  const across = (width - 2 * FIT_MARGIN) / Math.max(scene.width, 1);
  const down = (height - 2 * FIT_MARGIN) / Math.max(scene.height, 1);
  const zoom = Math.max(least, Math.min(across, down, FIT_LIMIT));
  const start = (room, size) => Math.max((room - zoom * size) / 2, FIT_MARGIN);
  camera = { x: start(width, scene.width), y: start(height, scene.height), zoom };
  applyCamera();
}

function bringIntoView(drawn, isCentred) {
  const [whole, part] = [drawing.getBoundingClientRect(), drawn.getBoundingClientRect()];
  const isBeside = part.left < whole.left || part.right > whole.right;
  if (!isCentred && !isBeside && part.top >= whole.top && part.bottom <= whole.bottom) return;
  const [to, from] = [middleOf(drawing), middleOf(drawn)];
  moveCamera(to.x - from.x, to.y - from.y);
}

const pointers = new Map(); // those that are down: one pans, two zoom
let hasMoved = false;

drawing.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  if (!pointers.size) hasMoved = false;
  pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, startX: event.clientX, startY: event.clientY });
});

drawing.addEventListener("pointermove", (event) => {
  const last = pointers.get(event.pointerId);
  if (!last) return;
  const { clientX: x, clientY: y } = event;
  if (!hasMoved && Math.hypot(x - last.startX, y - last.startY) < DRAG_THRESHOLD) return;
  hasMoved = true;
  drawing.setPointerCapture(event.pointerId);
  drawing.classList.add("panning");
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  if (other) {
    const spread = (from) => Math.max(Math.hypot(from.x - other.x, from.y - other.y), 1);
    zoomBy(spread({ x, y }) / spread(last), (x + other.x) / 2, (y + other.y) / 2);
    moveCamera((x - last.x) / 2, (y - last.y) / 2);
  } else moveCamera(x - last.x, y - last.y);
  pointers.set(event.pointerId, { ...last, x, y });
});

for (const name of ["pointerup", "pointercancel"]) {
  addEventListener(name, (event) => {
    pointers.delete(event.pointerId);
    if (!pointers.size) drawing.classList.remove("panning");
  });
}

drawing.addEventListener("wheel", (event) => {
  event.preventDefault();
  const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1);
  zoomBy(Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX, event.clientY);
}, { passive: false });

// --- What a reader points at ---------------------------------------------------------------------------------------

const hovering = { hovered: null, focused: null };

/* Shows the details of a box, and marks its neighbours, and the value or the gradient that belongs to it. */
function point(drawn) {
  const marks = ["active", "near", "pair"];
  for (const marked of view.querySelectorAll(".active, .near, .pair")) marked.classList.remove(...marks);
  const box = drawn ? [...scene.boxes.keys()].find((found) => found.id === drawn.dataset.id) : null;
  panel.hidden = !box;
  if (!box) return;
  drawn.classList.add("active");
  for (const [arrow, line] of scene.arrows) {
    if (arrow.source !== box.id && arrow.target !== box.id) continue;
    line.classList.add("near");
    for (const id of [arrow.source, arrow.target]) if (id !== box.id) scene.elementOf.get(id).classList.add("near");
  }
  for (const other of scene.boxes.keys()) {
    if (other.id === box.owner || other.owner === box.id) scene.elementOf.get(other.id).classList.add("pair");
  }
  const known = knownNumbers(box.members.map((member) => member.id), times, sequence.now);
  fillPanel(panel, box, picture.kinds[box.kind], known);
  const whole = drawing.getBoundingClientRect();
  panel.classList.toggle("left", middleOf(drawn).x > whole.left + whole.width * 0.55);
}

const boxAt = (event) => event.target.closest?.(".box") ?? null;

drawing.addEventListener("pointerover", (event) => {
  if (pointers.size) return;
  hovering.hovered = boxAt(event);
  point(hovering.hovered ?? hovering.focused);
});
drawing.addEventListener("pointerleave", () => point((hovering.hovered = null) ?? hovering.focused));
// On the element around the drawing: with such a listener an SVG element itself is a stop of the Tab key.
drawing.parentElement.addEventListener("focusin", (event) => {
  hovering.focused = boxAt(event);
  if (drawing.contains(event.target) && event.target.matches(":focus-visible")) bringIntoView(event.target, false);
  point(hovering.focused);
});
drawing.parentElement.addEventListener("focusout", () => {
  hovering.focused = null;
  point(hovering.hovered);
});
drawing.addEventListener("click", (event) => {
  const folding = event.target.closest("[data-group]:not(.frame)");
  if (folding && !hasMoved) toggle(folding, false); // not every browser gives the click after a drag to the drawing
  hasMoved = false;
});
drawing.addEventListener("dblclick", (event) => {
  if (event.target.matches(".frame")) toggle(event.target, false);
});
