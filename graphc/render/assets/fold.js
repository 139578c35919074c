"use strict";
/* What is seen of a picture while some of its groups are folded. */

const MOST_MEMBERS = 12; // of a block, that the panel names
const MOST_NUMBERS = 4; // lines of numbers in a block

/* `closed`: the keys of the groups that are folded. A box inside one gives way to its outermost closed group, drawn as
one block in each half; arrows with the same ends and role become one, whose label stays where all had the same. */
function foldPicture(picture, closed) {
  const groups = new Map(picture.groups.map((group) => [group.key, group]));
  const standsFor = new Map(); // the id of a box -> the id of what is seen of it
  const boxes = new Map();
  for (const box of picture.boxes) {
    const key = outermost(groups, box.group, closed);
    const id = key === null ? box.id : `${box.half} ${key}`;
    standsFor.set(box.id, id);
    if (key === null) boxes.set(id, { ...box, members: [box] });
    else if (boxes.has(id)) boxes.get(id).members.push(box);
    else boxes.set(id, blockOf(groups.get(key), box));
  }
  // Among blocks a gradient stands in the column of the op whose backward step it is, else in that of its value.
  const hasBlocks = [...boxes.values()].some((box) => box.groupKey && groups.get(box.groupKey).kind === "block");
  for (const box of boxes.values()) {
    const isByOp = hasBlocks || box.groupKey !== undefined;
    const wanted = box.members.map(({ beside, owner }) => (isByOp ? (beside ?? owner) : (owner ?? beside)));
    const found = wanted.map((id) => standsFor.get(id)).find((id) => id !== undefined && id !== box.id);
    box.owner = found ?? null;
    if (box.groupKey !== undefined) fillBlock(box, groups.get(box.groupKey));
  }
  const open = picture.groups.filter((group) => outermost(groups, group.key, closed) === null);
  return { boxes: [...boxes.values()], arrows: mergeArrows(picture.arrows, standsFor), groups: open, standsFor };
}

function outermost(groups, key, closed) {
  let found = null;
  for (let at = groups.get(key); at; at = groups.get(at.parent)) if (closed.has(at.key)) found = at.key;
  return found;
}

function blockOf(group, first) {
  const { half } = first;
  const id = `${half} ${group.key}`;
  return { id, kind: group.kind, groupKey: group.key, half, group: group.parent, members: [first] };
}

/* What stands in a block: the lines of its group, and the names and numbers of what it holds where they are few. */
function fillBlock(box, group) {
  const { members, half } = box;
  const outputs = members.filter((member) => member.kind === "output");
  if (half === "forward" && outputs.length) box.kind = "output";
  if (half === "gradient" && members.some((member) => member.kind === "gradient")) box.kind = "gradients";
  const given = half === "forward" ? group.lines : group.gradientLines;
  const lines = given.length ? [...given] : [[titleOf(group, half), "bold"], [`${members.length} boxes`, "quiet"]];
  const said = new Set(lines.map(([text]) => text));
  const isNew = ([text, style]) => style === "italic" && !said.has(text);
  const names = outputs.flatMap((member) => member.lines).filter(isNew);
  const numbers = members.flatMap((member) => member.lines.filter(([, style]) => isNumber(style)));
  const isFew = half === "forward" || numbers.length <= MOST_NUMBERS;
  box.lines = [...lines, ...names, ...(isFew ? numbers.slice(0, MOST_NUMBERS) : [])];
  box.isShared = members.some((member) => member.isShared);
  box.details = detailsOf(members);
}

function isNumber(style) {
  return style === "value" || style === "gradient";
}

/* What the panel says of a block: the names of what it holds, their equations and the lines that they come from. */
function detailsOf(members) {
  const few = (texts) => {
    const told = [...new Set(texts)];
    const more = told.length - MOST_MEMBERS;
    return more > 0 ? [...told.slice(0, MOST_MEMBERS), `and ${more} more`] : told;
  };
  const all = members.flatMap((member) => member.details);
  const of = (wanted) => few(all.filter(([name]) => name === wanted).flatMap(([, texts]) => texts));
  const names = members.map((member) => member.lines.filter(([, s]) => !isNumber(s)).map(([text]) => text).join("  "));
  const found = [[`holds ${members.length}`, few(names)], ["equation", of("equation")], ["source", of("source")]];
  return found.filter(([, texts]) => texts.length);
}

function mergeArrows(arrows, standsFor) {
  const merged = new Map();
  for (const arrow of arrows) {
    const [source, target] = [standsFor.get(arrow.source), standsFor.get(arrow.target)];
    if (source === target) continue;
    const name = JSON.stringify([source, target, arrow.role]);
    const label = JSON.stringify([arrow.above, arrow.below]);
    const before = merged.get(name);
    if (!before) merged.set(name, { ...arrow, source, target, label, parts: [arrow] });
    else {
      before.parts.push(arrow);
      if (before.label !== label) [before.above, before.below] = [[], []];
    }
  }
  return [...merged.values()];
}
