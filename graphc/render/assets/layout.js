"use strict";
/*
A layered layout after Sugiyama, Tagawa and Toda (1981), as one pure function: `layOut(scene)`.

scene: {direction: "LR" or "TB", boxes, arrows, groups}
    box    {id, width, height, half, owner, group, isSide}; group: the key of the innermost frame around it, or null;
           isSide: a parameter or such, which stands beside the main line
    arrow  {source, target, role, label}; label: {width, height} or null
    group  {key, parent, titleWidth}; only those that are open, each after its parent
Result: {boxes: Map(id -> {x, y, rank}), arrows: [{path, label: {x, y} or null}], frames: [{key, half, x, y, width,
height}], width, height}; x and y of boxes and labels are their middles.

"Along" is the way that the forward half runs, "across" is at right angles to it; which of them is the page's x is known
to `newItem` and `drawn` alone. Boxes stand in ranks along. A gradient has the rank of its owner, and its arrows take
part turned round. An arrow over several ranks gets an item in each that it passes: a bend, or its label. So what is
placed is one list of items, no two of which overlap. A group is a rectangle over the ranks from its first to its last
box, which all others stay outside.
*/

const LOOP_WIDTH = 22; // pixels, all of these
const HEAD = 9; // of an arrow
const BESIDE = 6;
const LINE_SPACE = 3.5;
const LINES_BESIDE = 4;

function layOut(scene) {
  const isDown = scene.direction === "TB";
  const stride = scene.arrows.some((arrow) => arrow.label && takesPart(arrow)) ? 2 : 1; // labels get ranks between
  const ranks = rankBoxes(scene);
  const boxes = scene.boxes.map((box) => newItem(box, ranks.get(box.id) * stride, box, isDown));
  const itemOf = new Map(boxes.map((item) => [item.box.id, item]));
  const halves = ["forward", "gradient"].map((half) => treeOf(scene, boxes, half));
  const chains = scene.arrows.map((arrow) => chainOf(arrow, itemOf, isDown));
  linkNeighbours(chains);
  const items = [...boxes, ...chains.flatMap((chain) => chain?.inner ?? [])];
  for (const tree of halves) tree.items = items.filter((item) => item.cluster.half === tree.half);
  orderHalf(halves[0], () => null);
  orderHalf(halves[1], (item) => itemOf.get(item.box?.owner) ?? null);
  placeAcross(halves, isDown);
  const columns = placeAlong(halves, items, isDown, stride);
  return drawn({ scene, halves, itemOf, chains, columns, isDown });
}

function newItem(box, rank, size, isDown) {
  const [along, across] = isDown ? [size.height, size.width] : [size.width, size.height];
  return { box, rank, along, across, near: [], kin: [], spot: null, isBend: box === null, isSoft: false };
}

function takesPart(arrow) {
  return arrow.role === "forward" || arrow.role === "gradient";
}

// --- Clusters and items --------------------------------------------------------------------------------------------

/* The tree of the groups that have boxes in a half. `rows`: what a cluster has in each rank, beside its children. */
function treeOf(scene, boxes, half) {
  const all = [];
  const byKey = new Map();
  const add = (key, parent, titleWidth) => {
    const cluster = { key, parent, titleWidth, half, children: [], rows: new Map(), first: Infinity, last: -Infinity };
    all.push(cluster);
    byKey.set(key, cluster);
    parent?.children.push(cluster);
    return cluster;
  };
  const root = add(null, null, 0);
  const members = boxes.filter((item) => item.box.half === half);
  const held = new Set(members.map((item) => item.box.group));
  for (const group of [...scene.groups].reverse()) if (held.has(group.key)) held.add(group.parent);
  for (const group of scene.groups) {
    if (held.has(group.key)) add(group.key, byKey.get(group.parent) ?? root, group.titleWidth);
  }
  for (const item of members) {
    enter(item, byKey.get(item.box.group) ?? root);
    for (let around = item.cluster; around; around = around.parent) {
      around.first = Math.min(around.first, item.rank);
      around.last = Math.max(around.last, item.rank);
    }
  }
  return { half, root, all, items: [] };
}

function enter(item, cluster) {
  item.cluster = cluster;
  rowOf(cluster, item.rank).push(item);
}

/* The items from the lower to the higher end of an arrow; null for one that takes no part or stays in its rank. */
function chainOf(arrow, itemOf, isDown) {
  const [source, target] = [itemOf.get(arrow.source), itemOf.get(arrow.target)];
  if (!takesPart(arrow) || source.rank === target.rank || source.cluster.half !== target.cluster.half) return null;
  const isTurned = source.rank > target.rank;
  const [low, high] = isTurned ? [target, source] : [source, target];
  const inner = [];
  for (let rank = low.rank + 1; rank < high.rank; rank += 1) {
    const isLabel = arrow.label && rank === (isTurned ? high.rank - 1 : low.rank + 1);
    const item = newItem(null, rank, isLabel ? arrow.label : { width: 0, height: 0 }, isDown);
    item.isLabel = isLabel;
    item.between = { low, high, share: (rank - low.rank) / (high.rank - low.rank) };
    enter(item, clusterFor(low, high, rank));
    inner.push(item);
  }
  low.kin.push(high);
  high.kin.push(low);
  return { low, high, inner, isTurned };
}

/* Where an arrow passes a rank: inside the group that it leaves while that lasts, then outside, then inside the one
that it goes to. */
function clusterFor(low, high, rank) {
  const around = (cluster) => (cluster ? [...around(cluster.parent), cluster] : []);
  const [left, right] = [around(low.cluster), around(high.cluster)];
  let depth = 0;
  while (left[depth + 1] && left[depth + 1] === right[depth + 1]) depth += 1;
  let found = left[depth];
  for (const way of [left, right]) {
    if (found !== left[depth]) break;
    for (let at = depth + 1; at < way.length && way[at].first <= rank && rank <= way[at].last; at += 1) found = way[at];
  }
  return found;
}

/* What pulls on an item. Long arrows are kept straight, and a label stands straight ahead of where its arrow starts; a
side box with one arrow is soft: it follows what it is for, and hardly pulls on that. */
function linkNeighbours(chains) {
  const found = chains.filter((chain) => chain !== null);
  const degree = new Map();
  for (const { low, high } of found) for (const end of [low, high]) degree.set(end, (degree.get(end) ?? 0) + 1);
  for (const { low, high, inner, isTurned } of found) {
    const leaf = [low, high].find((end) => end.box.isSide && degree.get(end) === 1) ?? null;
    for (const item of leaf ? [leaf, ...inner] : []) item.isSoft = true;
    const items = [low, ...inner, high];
    for (let at = 0; at + 1 < items.length; at += 1) {
      const [one, other] = [items[at], items[at + 1]];
      const weight = one.isBend && other.isBend ? 8 : one.isBend || other.isBend ? 2 : 1;
      one.near.push({ item: other, weight: weight * (leaf === high ? 0.05 : 1) * (one.isLabel && isTurned ? 6 : 1) });
      other.near.push({ item: one, weight: weight * (leaf === low ? 0.05 : 1) * (other.isLabel && !isTurned ? 6 : 1) });
    }
  }
}

// --- Results -------------------------------------------------------------------------------------------------------

/* Turns places into the page's coordinates, from 0 on. */
function drawn({ scene, halves, itemOf, chains, columns, isDown }) {
  const clusters = halves.flatMap((tree) => tree.all).filter((cluster) => cluster.parent !== null);
  const middle = (item) => (columns[item.rank].start + columns[item.rank].end) / 2;
  const rectangles = clusters.map((cluster) => {
    const along = [columns[cluster.first].start - cluster.before, columns[cluster.last].end + cluster.after];
    return { cluster, along, across: [cluster.start.at, cluster.end.at] };
  });
  const items = halves.flatMap((tree) => tree.items);
  const lowest = (numbers) => numbers.reduce((least, number) => Math.min(least, number), Infinity);
  const highest = (numbers) => numbers.reduce((most, number) => Math.max(most, number), -Infinity);
  const alongFrom = lowest([0, ...rectangles.map((rectangle) => rectangle.along[0])]);
  const acrossFrom = lowest([
    ...items.map((item) => item.at - item.across / 2),
    ...rectangles.map((rectangle) => rectangle.across[0]),
  ]);
  const point = ([along, across]) => {
    const moved = [along - alongFrom, across - acrossFrom].map((number) => Math.round(number * 10) / 10);
    return isDown ? moved.reverse() : moved;
  };
  const boxes = new Map();
  for (const [id, item] of itemOf) {
    const [x, y] = point([middle(item), item.at]);
    boxes.set(id, { x, y, rank: item.rank });
  }
  const arrows = scene.arrows.map((arrow, at) => {
    const label = chains[at]?.inner.find((item) => item.isLabel);
    const [x, y] = label ? point([middle(label), label.at]) : [];
    const chain = chains[at];
    const path = chain ? chainPath(chain, columns, point) : freePath(arrow, { itemOf, halves, columns, point, middle });
    return { path, label: label ? { x, y } : null };
  });
  const frames = rectangles.map(({ cluster, along, across }) => {
    const [[x, y], [right, bottom]] = [point([along[0], across[0]]), point([along[1], across[1]])];
    return { key: cluster.key, half: cluster.half, x, y, width: right - x, height: bottom - y };
  });
  const far = point([
    highest([...columns.map((column) => column.end), ...rectangles.map((rectangle) => rectangle.along[1])]),
    highest([...items.map((item) => item.at + item.across / 2), ...rectangles.map(({ across }) => across[1])]),
  ]);
  return { boxes, arrows, frames, width: far[0], height: far[1] };
}

/* Straight through each column that the arrow passes, so that it meets no box, and into its target; curved between. */
function chainPath({ low, high, inner, isTurned }, columns, point) {
  const middle = (item) => (columns[item.rank].start + columns[item.rank].end) / 2;
  const stops = [
    [middle(low) + low.along / 2, low.at],
    [columns[low.rank].end + (isTurned ? HEAD : 0), low.at],
    ...inner.flatMap((item) => [[columns[item.rank].start, item.at], [columns[item.rank].end, item.at]]),
    [columns[high.rank].start - (isTurned ? 0 : HEAD), high.at],
    [middle(high) - high.along / 2, high.at],
  ];
  if (isTurned) stops.reverse();
  const text = [`M${point(stops[0])}`];
  for (let at = 1; at < stops.length; at += 1) {
    const [from, to] = [stops[at - 1], stops[at]];
    const bend = (from[0] + to[0]) / 2;
    if (from[1] === to[1]) text.push(`L${point(to)}`);
    else text.push(`C${point([bend, from[1]])} ${point([bend, to[1]])} ${point(to)}`);
  }
  return text.join("");
}

/* An arrow that takes no part. From half to half it leaves its rank straight across where nothing is in the way, else
through the space beside the rank, and changes ranks between the halves. Within a half it goes across or round. */
function freePath({ source, target }, { itemOf, halves, columns, point, middle }) {
  const [from, to] = [itemOf.get(source), itemOf.get(target)];
  const side = (item, sign) => [middle(item), item.at + (sign * item.across) / 2];
  const sign = to.at < from.at ? -1 : 1;
  if (from.cluster.half === to.cluster.half) {
    const isNear = Math.abs(to.at - from.at) - (to.across + from.across) / 2 < 4;
    const [start, end] = isNear ? [side(from, 1), side(to, 1)] : [side(from, sign), side(to, -sign)];
    const bend = isNear ? LOOP_WIDTH : ((end[1] - start[1]) * sign) / 2;
    const [out, back] = [start[1] + bend * (isNear ? 1 : sign), end[1] + bend * (isNear ? 1 : -sign)];
    return `M${point(start)}C${point([start[0], out])} ${point([end[0], back])} ${point(end)}`;
  }
  const limits = halves.map((tree) => tree.root).map((root) => (root.half === "forward" ? root.end.at : root.start.at));
  const [leave, arrive] = sign > 0 ? limits : [...limits].reverse();
  const isFree = (item, way) => {
    const tree = halves.find((found) => found.half === item.cluster.half);
    return tree.items.every((other) => other.rank !== item.rank || !other.along || (other.at - item.at) * way <= 0);
  };
  const leg = (item, way, limit) => {
    if (isFree(item, way)) return [side(item, way), null, [middle(item), limit]];
    const column = columns[item.rank];
    column.lines = (column.lines ?? 0) + 1; // each beside the others
    const beside = column.end + BESIDE + ((column.lines - 1) % LINES_BESIDE) * LINE_SPACE;
    const from = item.at + way * item.across * 0.3;
    return [[middle(item) + item.along / 2 - 3, from], [beside, from], [beside, limit]];
  };
  const [start, startBend, out] = leg(from, sign, leave);
  const [end, endBend, back] = leg(to, -sign, arrive);
  const channel = (out[1] + back[1]) / 2;
  const round = (corner, next) => (corner ? `Q${point(corner)} ${point(next)}` : `L${point(next)}`);
  const turn = (corner, to) => corner && [corner[0], corner[1] + Math.sign(to - corner[1]) * BESIDE];
  const text = [`M${point(start)}`];
  if (startBend) text.push(round(startBend, turn(startBend, out[1])));
  text.push(`L${point(out)}C${point([out[0], channel])} ${point([back[0], channel])} ${point(back)}`);
  if (endBend) text.push(`L${point(turn(endBend, back[1]))}`, round(endBend, end));
  else if (Math.abs(end[1] - back[1]) > 0.1) text.push(`L${point(end)}`); // no line at all would turn the head
  return text.join("");
}
