"use strict";
/* The order of items within each rank of one half. A row is what a cluster has in a rank: items and child clusters. */

const ORDER_SWEEPS = 14;

/* Barycentre sweeps, back and along, from a start that depends on the scene alone; the first order with the fewest
crossings stays. A child cluster is sorted by one key in all ranks, so that frames never interlace. */
function orderHalf(tree, ownerOf) {
  for (const cluster of tree.all) {
    for (const child of cluster.children) {
      for (let rank = child.first; rank <= child.last; rank += 1) rowOf(cluster, rank).push(child);
    }
  }
  const ranks = [...tree.root.rows.keys()].sort((a, b) => a - b);
  firstSpots(tree.items, ownerOf);
  const pulls = tree.all.map(pullsOn);
  let best = null;
  for (let sweep = 0; sweep <= ORDER_SWEEPS && best?.crossings !== 0; sweep += 1) {
    const isAlong = sweep % 2 === 0;
    for (const item of tree.items) item.sortKey = item.spot;
    tree.all.forEach((cluster, at) => (cluster.sortKey = mean(pulls[at].map((item) => item.spot)) + at * 1e-9));
    for (const rank of isAlong ? ranks : [...ranks].reverse()) {
      for (const item of sweep === 0 ? [] : itemsIn(tree.root, rank)) {
        const seen = item.near.filter((near) => (isAlong ? near.item.rank < rank : near.item.rank > rank));
        if (seen.length) item.sortKey = mean(seen.map((near) => near.item.spot));
      }
      sortRow(tree.root, rank);
      const row = itemsIn(tree.root, rank);
      row.forEach((item, at) => (item.spot = at - (row.length - 1) / 2));
    }
    const crossings = countCrossings(tree.items);
    if (!best || crossings < best.crossings) {
      const rows = tree.all.map((cluster) => new Map([...cluster.rows].map(([rank, row]) => [rank, [...row]])));
      best = { crossings, rows, spots: tree.items.map((item) => item.spot) };
    }
  }
  tree.all.forEach((cluster, at) => (cluster.rows = best.rows[at]));
  tree.items.forEach((item, at) => (item.spot = best.spots[at]));
}

function rowOf(cluster, rank) {
  if (!cluster.rows.has(rank)) cluster.rows.set(rank, []);
  return cluster.rows.get(rank);
}

function itemsIn(cluster, rank) {
  return (cluster.rows.get(rank) ?? []).flatMap((entry) => (entry.rows ? itemsIn(entry, rank) : [entry]));
}

function sortRow(cluster, rank) {
  const row = rowOf(cluster, rank);
  for (const entry of row) if (entry.rows) sortRow(entry, rank);
  row.sort((one, other) => one.sortKey - other.sortKey);
}

/* What pulls a frame: the neighbours of its items outside it, or, where there are none, the items themselves. */
function pullsOn(cluster) {
  const inside = new Set();
  for (const rank of cluster.rows.keys()) for (const item of itemsIn(cluster, rank)) inside.add(item);
  const outside = [...inside].flatMap((item) => item.near.map((near) => near.item).filter((near) => !inside.has(near)));
  return outside.length ? outside : [...inside];
}

function mean(numbers) {
  return numbers.length ? numbers.reduce((sum, number) => sum + number, 0) / numbers.length : 0;
}

/* The forward half starts as a tree that hangs from the last boxes, a box in the middle of what it reads, parameters
first, so that they stand on one side of the main line. A gradient starts opposite its owner: the half is mirrored. */
function firstSpots(items, ownerOf) {
  let count = 0;
  const seen = new Set();
  const visit = (item) => {
    seen.add(item);
    const below = item.kin.filter((other) => other.rank < item.rank);
    below.sort((one, other) => Number(other.isSoft) - Number(one.isSoft));
    const mine = below.filter((other) => !seen.has(other) && (visit(other), true));
    if (!below.length) count += 1;
    item.spot = below.length ? mean((mine.length ? mine : below).map((other) => other.spot)) : count;
  };
  const boxes = items.filter((item) => !item.isBend);
  for (const item of boxes) item.spot = ownerOf(item) ? -ownerOf(item).spot : null;
  if (boxes.every((item) => item.spot === null)) {
    for (const item of [...boxes].reverse()) if (!seen.has(item)) visit(item);
  }
  let waiting = boxes.filter((item) => item.spot === null);
  while (waiting.length) {
    const known = (item) => item.kin.map((other) => other.spot).filter((spot) => spot !== null);
    const next = waiting.filter((item) => known(item).length);
    for (const item of next.length ? next : waiting) item.spot = mean(known(item));
    waiting = boxes.filter((item) => item.spot === null);
  }
  for (const item of items) {
    if (!item.isBend) continue;
    const { low, high, share } = item.between;
    item.spot = low.spot * (1 - share) + high.spot * share;
  }
}

function countCrossings(items) {
  const gaps = new Map();
  for (const item of items) {
    for (const near of item.near) {
      if (near.item.rank < item.rank) continue;
      if (!gaps.has(item.rank)) gaps.set(item.rank, []);
      gaps.get(item.rank).push([item.spot, near.item.spot]);
    }
  }
  let count = 0;
  for (const lines of gaps.values()) {
    lines.forEach(([low, high], at) => {
      for (let other = 0; other < at; other += 1) {
        if ((low - lines[other][0]) * (high - lines[other][1]) < 0) count += 1;
      }
    });
  }
  return count;
}
