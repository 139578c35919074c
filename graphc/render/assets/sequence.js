"use strict";
/* When the boxes and numbers of a picture get to be known, as the steps go on. Times are step numbers from 1 on. */

const START = 0; // what no step computes is known from the start

/* value(id): when a box has its value; gradient(id): when its gradient is known, which is written beside its value. */
function timesOf(picture) {
  const [values, gradients] = [new Map(), new Map()];
  picture.steps.forEach((step, at) => {
    for (const id of step.boxes) if (!values.has(id)) values.set(id, at + 1);
    for (const id of step.gradients) gradients.set(id, at + 1);
  });
  const value = (id) => values.get(id) ?? START;
  return { value, gradient: (id) => gradients.get(id) ?? value(id) };
}

/* Which numbers of a box are known at step `now`, null for the end; those of a block when all of it is. */
function knownNumbers(ids, times, now) {
  const isKnown = (time) => ids.every((id) => now === null || time(id) <= now);
  return { value: isKnown(times.value), gradient: isKnown(times.gradient) };
}

/* Pales what comes after step `now` and hides its numbers; null shows everything. A block is reached with its first
member, and an arrow with its source; one that brings a value to a gradient, with that. */
function showStep(scene, times, now) {
  const isReached = (ids) => now === null || ids.some((id) => times.value(id) <= now);
  for (const [box, drawn] of scene.boxes) {
    const ids = box.members.map((member) => member.id);
    drawn.classList.toggle("later", !isReached(ids));
    drawn.classList.toggle("now", now !== null && ids.some((id) => times.value(id) === now));
    showLines(drawn, knownNumbers(ids, times, now));
  }
  for (const [arrow, drawn] of scene.arrows) {
    const sources = arrow.parts.map((part) => part.source);
    const ends = arrow.role === "reuse" ? arrow.parts.map((part) => part.target) : sources;
    drawn.classList.toggle("later", !isReached(ends));
    showLines(drawn, knownNumbers(sources, times, now));
  }
}

function showLines(drawn, known) {
  for (const line of drawn.querySelectorAll("tspan.value")) line.classList.toggle("unseen", !known.value);
  for (const line of drawn.querySelectorAll("tspan.gradient")) line.classList.toggle("unseen", !known.gradient);
}
