"use strict";
/* Where items stand across and along, once their order is known. */

const BOX_SEPARATION = 13; // pixels, all of these
const BEND_SEPARATION = 8;
const FRAME_SEPARATION = 16;
const HALVES_SEPARATION = 44;
const RANK_SEPARATION = 46;
const FRAME_PADDING = 9;
const TITLE_HEIGHT = 20;
const PLACE_SWEEPS = 40;
const POLISH_SWEEPS = 8;
const STRAIGHT = 4; // pixels within which an arrow is made straight

// --- Across --------------------------------------------------------------------------------------------------------

/* Every item, and both edges of every frame, has an `at`; a separation {low, high, gap} keeps high.at - low.at >= gap.
Each sweep wishes every item to the mean of its neighbours and then meets the separations. */
function placeAcross(halves, isDown) {
  const clusters = halves.flatMap((tree) => tree.all);
  const items = halves.flatMap((tree) => tree.items);
  for (const cluster of clusters) {
    cluster.start = { across: 0, isSoft: true, at: 0, frame: cluster };
    cluster.end = { across: 0, isSoft: true, at: 0, frame: cluster };
  }
  for (const item of items) item.at = 0;
  const places = [...items, ...clusters.flatMap((cluster) => [cluster.start, cluster.end])];
  const separations = separationsOf(halves, places, isDown);
  for (let sweep = 0; sweep < PLACE_SWEEPS; sweep += 1) {
    const isBoth = sweep >= PLACE_SWEEPS / 2;
    const isAlong = sweep % 2 === 0;
    const order = [...items].sort((one, other) => (isAlong ? one.rank - other.rank : other.rank - one.rank));
    for (const place of places) place.wish = place.at;
    const pull = (item) => {
      const seen = item.near.filter((near) => isBoth || near.item.rank < item.rank === isAlong);
      const weight = seen.reduce((sum, near) => sum + near.weight, 0);
      if (weight) item.wish = seen.reduce((sum, near) => sum + near.weight * near.item.wish, 0) / weight;
    };
    for (const item of order) if (!item.isSoft) pull(item);
    meet(places, separations, false);
    for (const item of order) if (item.isSoft && item.near.length) item.wish = softWish(item);
    for (const cluster of [...clusters].reverse()) wishEdges(cluster, "wish");
    meet(places, separations, true);
  }
  polish(items, separations);
  for (const cluster of [...clusters].reverse()) {
    wishEdges(cluster, "at");
    [cluster.start.at, cluster.end.at] = [cluster.start.wish, cluster.end.wish];
  }
  const slack = halves[1].root.start.at - halves[0].root.end.at - HALVES_SEPARATION;
  for (const place of places) if ((place.frame ?? place.cluster).half === "gradient") place.at -= slack;
}

/* Moves single items to where their neighbours are, as far as there is room. */
function polish(items, separations) {
  const [lows, highs] = [new Map(), new Map()];
  for (const separation of separations) {
    lows.set(separation.high, [...(lows.get(separation.high) ?? []), separation]);
    highs.set(separation.low, [...(highs.get(separation.low) ?? []), separation]);
  }
  for (let sweep = 0; sweep < POLISH_SWEEPS; sweep += 1) {
    for (const item of sweep % 2 ? items : [...items].reverse()) {
      const weight = item.near.reduce((sum, near) => sum + near.weight, 0);
      if (!weight) continue;
      const wish = item.near.reduce((sum, near) => sum + near.weight * near.item.at, 0) / weight;
      const close = item.near.find((near) => Math.abs(near.item.at - wish) < STRAIGHT);
      const least = Math.max(...(lows.get(item) ?? []).map(({ low, gap }) => low.at + gap));
      const most = Math.min(...(highs.get(item) ?? []).map(({ high, gap }) => high.at - gap));
      item.at = Math.min(most, Math.max(least, close ? close.item.at : wish));
    }
  }
}

/* A side box and its label are wished to the line of the box that they belong to. */
function softWish(item) {
  let next = item;
  const seen = new Set();
  while (next.isSoft && !seen.has(next)) {
    seen.add(next);
    next = next.near.reduce((one, other) => (other.weight > one.weight ? other : one)).item;
  }
  return next.at;
}

/* The edges of a frame are wished close around what it holds, within where they are allowed now. */
function wishEdges(cluster, field) {
  if (!cluster.starts.length) {
    [cluster.start.wish, cluster.end.wish] = [cluster.start.at, cluster.end.at]; // an empty half
    return;
  }
  const value = (place) => (place.frame ? place.wish : place[field]);
  let start = Math.min(...cluster.starts.map(({ high, gap }) => value(high) - gap));
  let end = Math.max(...cluster.ends.map(({ low, gap }) => value(low) + gap));
  const lacking = cluster.minimum - (end - start);
  if (lacking > 0) {
    start = Math.max(cluster.start.at, Math.min(start - lacking / 2, cluster.end.at - cluster.minimum));
    end = start + cluster.minimum;
  }
  [cluster.start.wish, cluster.end.wish] = [start, end];
}

/* All that must stay apart, in an order in which each comes after those that move its lower place. */
function separationsOf(halves, places, isDown) {
  const found = [];
  const title = isDown ? 0 : TITLE_HEIGHT;
  const add = (low, high, space) => {
    const separation = { low, high, gap: (low.across + high.across) / 2 + space };
    found.push(separation);
    return separation;
  };
  const walk = (cluster, rank) => {
    const isRoot = cluster.parent === null;
    let low = cluster.start;
    for (const entry of cluster.rows.get(rank) ?? []) {
      const high = entry.rows ? entry.start : entry;
      const isFirst = low === cluster.start;
      const separation = add(low, high, isFirst ? (isRoot ? 0 : FRAME_PADDING + title) : spaceBetween(low, high));
      if (isFirst) cluster.starts.push(separation);
      if (entry.rows) walk(entry, rank);
      low = entry.rows ? entry.end : entry;
    }
    const last = add(low, cluster.end, isRoot ? 0 : FRAME_PADDING);
    if (low !== cluster.start) cluster.ends.push(last);
  };
  for (const tree of halves) {
    for (const cluster of tree.all) {
      [cluster.starts, cluster.ends, cluster.minimum] = [[], [], isDown ? cluster.titleWidth : 0];
      add(cluster.start, cluster.end, cluster.minimum);
    }
    for (const rank of tree.root.rows.keys()) walk(tree.root, rank);
  }
  add(halves[0].root.end, halves[1].root.start, HALVES_SEPARATION);
  const after = new Map(places.map((place) => [place, new Set()]));
  for (const { low, high } of found) after.get(low).add(high);
  const order = new Map(withoutCycles(after).map((place, at) => [place, at]));
  return found.sort((one, other) => order.get(one.low) - order.get(other.low));
}

function spaceBetween(low, high) {
  if (low.frame || high.frame) return FRAME_SEPARATION;
  return low.isBend || high.isBend ? BEND_SEPARATION : BOX_SEPARATION;
}

/* Moves places as little as the separations allow: the mean of pushing all one way and all the other way meets them,
too, since each of the two does. First the firm ones, with room for the soft ones between; then the soft ones alone. */
function meet(places, separations, isForSoft) {
  const mayMove = (place) => place.isSoft === isForSoft;
  const down = new Map();
  const up = new Map();
  for (const place of places) {
    const isFree = place.isSoft && !isForSoft;
    down.set(place, isFree ? -Infinity : mayMove(place) ? place.wish : place.at);
    up.set(place, isFree ? Infinity : mayMove(place) ? place.wish : place.at);
  }
  const push = (side) => {
    for (const { low, high, gap } of separations) {
      if (!isForSoft || high.isSoft) side.set(high, Math.max(side.get(high), side.get(low) + gap));
    }
  };
  const pushBack = (side) => {
    for (let at = separations.length - 1; at >= 0; at -= 1) {
      const { low, high, gap } = separations[at];
      if (!isForSoft || low.isSoft) side.set(low, Math.min(side.get(low), side.get(high) - gap));
    }
  };
  push(down);
  if (isForSoft) pushBack(down);
  pushBack(up);
  if (isForSoft) push(up);
  for (const place of places) if (mayMove(place)) place.at = (down.get(place) + up.get(place)) / 2;
}

// --- Along ---------------------------------------------------------------------------------------------------------

/* The start and the end of each rank's column, wide enough for its items, the frames' edges and, LR, their titles. */
function placeAlong(halves, items, isDown, stride) {
  const clusters = halves.flatMap((tree) => tree.all).filter((cluster) => cluster.parent !== null);
  for (const cluster of [...clusters].reverse()) {
    const inner = (side) => cluster.children.filter((child) => child[side] === cluster[side]);
    const most = (numbers) => Math.max(0, ...numbers);
    const title = isDown ? TITLE_HEIGHT : 0;
    cluster.before = FRAME_PADDING + title + most(inner("first").map((child) => child.before));
    cluster.after = FRAME_PADDING + most(inner("last").map((child) => child.after));
  }
  const count = items.reduce((most, item) => Math.max(most, item.rank), 0) + 1;
  const width = Array(count).fill(0);
  const [before, after] = [Array(count).fill(0), Array(count).fill(0)];
  for (const item of items) width[item.rank] = Math.max(width[item.rank], item.along);
  for (const cluster of clusters) {
    before[cluster.first] = Math.max(before[cluster.first], cluster.before);
    after[cluster.last] = Math.max(after[cluster.last], cluster.after);
  }
  const columns = [];
  const build = () => {
    let at = 0;
    for (let rank = 0; rank < count; rank += 1) {
      at += before[rank] + (rank ? RANK_SEPARATION / stride : 0);
      columns[rank] = { start: at, end: at + width[rank] };
      at += width[rank] + after[rank];
    }
  };
  build();
  for (const cluster of isDown ? [] : [...clusters].reverse()) {
    const has = columns[cluster.last].end - columns[cluster.first].start;
    width[cluster.last] += Math.max(0, cluster.titleWidth - has);
    build();
  }
  return columns;
}
