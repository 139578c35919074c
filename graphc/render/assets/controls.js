"use strict";
/* Search, the steps, buttons and keys. */

// --- Search --------------------------------------------------------------------------------------------------------

const search = { hits: [], at: -1 };
const query = byId("query");

function findHits() {
  const wanted = query.value.trim().toLowerCase();
  const textsOf = (box) => [...box.lines.map(([text]) => text), ...box.details.flatMap(([, texts]) => texts)];
  const isHit = (box) => textsOf(box).some((text) => text.toLowerCase().includes(wanted));
  search.hits = wanted ? picture.boxes.filter(isHit) : [];
  search.at = -1;
  byId("hits").textContent = wanted ? `${search.hits.length} found` : "";
  markHits();
}

function markHits() {
  for (const drawn of view.querySelectorAll(".hit")) drawn.classList.remove("hit");
  for (const box of search.hits) scene.elementOf.get(scene.standsFor.get(box.id)).classList.add("hit");
}

/* The next hit or, with -1, the one before; the groups around it are unfolded. */
function jump(by) {
  const count = search.hits.length;
  if (!count) return;
  search.at = (Math.max(search.at, by > 0 ? -1 : 0) + by + count) % count;
  const box = search.hits[search.at];
  const around = [];
  for (let key = box.group; key !== null; key = groupOf.get(key).parent) around.push(key);
  if (around.some((key) => closed.has(key))) {
    for (const key of around) closed.delete(key);
    draw();
  }
  const drawn = scene.elementOf.get(box.id);
  if (camera.zoom < 0.6) zoomMiddle(1 / camera.zoom);
  bringIntoView(drawn, true);
  point(drawn);
  byId("hits").textContent = `${search.at + 1} / ${count}`;
}

query.addEventListener("input", findHits);
query.addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    event.preventDefault();
    jump(event.shiftKey ? -1 : 1);
  }
});
byId("search").addEventListener("submit", (event) => event.preventDefault());

// --- Steps ---------------------------------------------------------------------------------------------------------

let playing = null; // the timer

function goTo(step) {
  const count = picture.steps.length;
  sequence.now = step === null ? null : Math.min(count, Math.max(1, step));
  const isAll = sequence.now === null;
  const slider = byId("step");
  slider.value = sequence.now ?? count;
  byId("count").textContent = isAll ? `${count} in all` : `${sequence.now} / ${count}`;
  byId("caption").textContent = isAll ? "everything is shown" : picture.steps[sequence.now - 1].caption;
  slider.setAttribute("aria-valuetext", `${byId("count").textContent}: ${byId("caption").textContent}`);
  byId("all-steps").hidden = isAll;
  showStep(scene, times, sequence.now);
  point(hovering.hovered ?? hovering.focused);
}

function stepBy(by) {
  if (picture.steps.length) goTo(sequence.now === null ? (by > 0 ? 1 : picture.steps.length) : sequence.now + by);
}

function play(isOn) {
  clearInterval(playing);
  const goOn = () => (sequence.now < picture.steps.length ? stepBy(1) : play(false));
  playing = isOn ? setInterval(goOn, PLAY_PAUSE) : null;
  byId("play").textContent = isOn ? "Pause" : "Play";
  byId("play").setAttribute("aria-pressed", String(isOn));
  if (isOn && (sequence.now === null || sequence.now === picture.steps.length)) goTo(1);
}

byId("step").addEventListener("input", (event) => {
  play(false);
  goTo(Number(event.target.value));
});
byId("play").addEventListener("click", () => play(playing === null));
byId("all-steps").addEventListener("click", () => {
  play(false);
  goTo(null);
});

// --- Buttons and keys ----------------------------------------------------------------------------------------------

byId("zoom-in").addEventListener("click", () => zoomMiddle(ZOOM_STEP));
byId("zoom-out").addEventListener("click", () => zoomMiddle(1 / ZOOM_STEP));
byId("zoom-fit").addEventListener("click", () => fit());
byId("fold-all").addEventListener("click", foldAll);
byId("unfold-level").addEventListener("click", unfoldLevel);

const KEYS = {
  "+": () => zoomMiddle(ZOOM_STEP),
  "=": () => zoomMiddle(ZOOM_STEP),
  "-": () => zoomMiddle(1 / ZOOM_STEP),
  0: () => fit(),
  ArrowLeft: () => moveCamera(PAN_STEP, 0),
  ArrowRight: () => moveCamera(-PAN_STEP, 0),
  ArrowUp: () => moveCamera(0, PAN_STEP),
  ArrowDown: () => moveCamera(0, -PAN_STEP),
  "/": () => query.focus(),
  ",": () => stepBy(-1),
  ".": () => stepBy(1),
  PageUp: () => stepBy(-1),
  PageDown: () => stepBy(1),
};

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    hovering.hovered = null;
    document.activeElement?.blur();
    point(null);
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target === query) return;
  const folding = event.target.closest?.("#drawing [data-group]");
  if (folding && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    toggle(folding, true);
    return;
  }
  const isSlider = event.target === byId("step");
  if (!KEYS[event.key] || (isSlider && /^(Arrow|Page)/.test(event.key))) return;
  event.preventDefault();
  KEYS[event.key]();
});

/* The legend starts in a corner in which it covers no box; where there is none, it starts closed. */
function placeLegend() {
  const legend = byId("legend");
  const covers = (one, other) => {
    const isAcross = one.left < other.right + 8 && other.left < one.right + 8;
    return isAcross && one.top < other.bottom + 8 && other.top < one.bottom + 8;
  };
  const boxes = [...scene.elementOf.values()].map((drawn) => drawn.getBoundingClientRect());
  const isFree = (corner) => {
    legend.className = corner;
    const room = legend.getBoundingClientRect();
    return !boxes.some((box) => covers(box, room));
  };
  legend.open = ["bottom left", "bottom right", "top left", "top right"].some(isFree);
  if (!legend.open) legend.className = "bottom left";
}

/* On paper the whole picture, whatever is in view. */
addEventListener("beforeprint", () => {
  drawing.setAttribute("viewBox", `-8 -8 ${scene.width + 16} ${scene.height + 16}`);
  view.removeAttribute("transform");
});
addEventListener("afterprint", () => {
  drawing.removeAttribute("viewBox");
  applyCamera();
});

// --- Start ---------------------------------------------------------------------------------------------------------

byId("folding").hidden = !picture.groups.length;
byId("sequence").hidden = !picture.steps.length;
byId("step").max = picture.steps.length;
byId("step").min = Math.min(1, picture.steps.length);
fillLegend(picture);
draw();
goTo(picture.isSequence && picture.steps.length ? 1 : null);
fit(LEAST_LEGIBLE);
placeLegend();
addEventListener("resize", applyCamera);
