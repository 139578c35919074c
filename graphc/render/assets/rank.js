"use strict";
/* The rank of each box: how many boxes, at most, lie before it. */

/* Result: Map(id of a box -> rank). A gradient has the rank of its owner and a group starts after all that it reads,
unless that would make a cycle. A box with no fewer readers than sources stands just before its first reader. */
function rankBoxes(scene) {
  const unit = new Map(scene.boxes.map((box) => [box.id, box.id])); // boxes with one rank share a unit
  const after = new Map(scene.boxes.map((box) => [box.id, new Set()]));
  for (const arrow of scene.arrows.filter(takesPart)) {
    const ends = [arrow.source, arrow.target];
    const [low, high] = arrow.role === "gradient" ? ends.reverse() : ends;
    if (low !== high) after.get(low).add(high);
  }
  withoutCycles(after);
  for (const box of [...scene.boxes].reverse()) if (after.has(box.owner)) unite(after, unit, box.id, box.owner);
  const starts = addStarts(scene, after, unit);
  const order = withoutCycles(after);
  const before = new Map(order.map((name) => [name, []]));
  for (const [low, highs] of after) for (const high of highs) before.get(high).push(low);
  const rank = new Map();
  for (const name of order) {
    const step = starts.has(name) ? 0 : 1;
    rank.set(name, before.get(name).reduce((most, low) => Math.max(most, rank.get(low) + step), 0));
  }
  for (const name of [...order].reverse()) {
    const highs = [...after.get(name)].map((high) => rank.get(high) - (starts.has(high) ? 0 : 1));
    const sources = before.get(name).filter((low) => !starts.has(low));
    if (highs.length && (starts.has(name) || highs.length >= sources.length)) rank.set(name, Math.min(...highs));
  }
  return new Map(scene.boxes.map((box) => [box.id, rank.get(unit.get(box.id))]));
}

/* Makes two boxes one unit, unless one is reached from the other. */
function unite(after, unit, id, ownerId) {
  const [one, owner] = [unit.get(id), unit.get(ownerId)];
  if (one === owner || reaches(after, [one], new Set([owner])) || reaches(after, [owner], new Set([one]))) return;
  for (const high of after.get(one)) after.get(owner).add(high);
  after.delete(one);
  for (const highs of after.values()) if (highs.delete(one)) highs.add(owner);
  unit.set(id, owner);
}

/* Adds a unit for the start of each group: after what its boxes read from outside and before all of them. So an arrow
enters a frame from the rank before it and runs straight on. */
function addStarts(scene, after, unit) {
  const parents = new Map(scene.groups.map((group) => [group.key, group.parent]));
  const forward = scene.boxes.filter((box) => box.half === "forward");
  const starts = new Set();
  for (const group of scene.groups) {
    const isInside = (key) => key !== null && key !== undefined && (key === group.key || isInside(parents.get(key)));
    const members = new Set(forward.filter((box) => isInside(box.group)).map((box) => unit.get(box.id)));
    const isRead = ([low, highs]) => !starts.has(low) && [...highs].some((high) => members.has(high));
    const outside = new Set([...after].filter(isRead).map(([low]) => low).filter((low) => !members.has(low)));
    if (!outside.size || reaches(after, [...members], outside)) continue;
    const start = `start of ${group.key}`;
    starts.add(start);
    after.set(start, members);
    for (const low of outside) after.get(low).add(start);
  }
  return starts;
}

function reaches(after, from, wanted) {
  const seen = new Set(from);
  const waiting = [...from];
  while (waiting.length) {
    for (const next of after.get(waiting.pop())) {
      if (wanted.has(next)) return true;
      if (!seen.has(next)) {
        seen.add(next);
        waiting.push(next);
      }
    }
  }
  return false;
}

/* Removes the links that close a cycle, as folding may make them; the result is a topological order. */
function withoutCycles(after) {
  const order = [];
  const state = new Map();
  for (const start of after.keys()) {
    if (state.has(start)) continue;
    const stack = [[start, [...after.get(start)]]];
    state.set(start, "open");
    while (stack.length) {
      const [name, rest] = stack.at(-1);
      const next = rest.pop();
      if (next === undefined) {
        state.set(name, "done");
        order.push(name);
        stack.pop();
      } else if (state.get(next) === "open") {
        after.get(name).delete(next);
      } else if (!state.has(next)) {
        state.set(next, "open");
        stack.push([next, [...after.get(next)]]);
      }
    }
  }
  return order.reverse();
}
