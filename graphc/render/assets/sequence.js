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

/* Pale what comes after step `now`, and hide its numbers; null shows everything. `scene`: what is drawn at present. */
function showStep(scene, times, now) {
  const isKnown = (time) => now === null || time <= now;
  for (const [box, drawn] of scene.boxes) {
    const reached = box.members.map((member) => times.value(member.id));
    drawn.classList.toggle("later", !isKnown(Math.min(...reached)));
    drawn.classList.toggle("now", now !== null && reached.includes(now));
    const gradients = box.members.map((member) => times.gradient(member.id));
    showLines(drawn, isKnown(Math.min(...reached)), isKnown(Math.min(...gradients)));
  }
  for (const [arrow, drawn] of scene.arrows) {
    const value = Math.min(...arrow.parts.map((part) => times.value(part.source)));
    const gradient = Math.min(...arrow.parts.map((part) => times.gradient(part.source)));
    const target = Math.min(...arrow.parts.map((part) => times.value(part.target)));
    drawn.classList.toggle("later", !isKnown(arrow.role === "reuse" ? target : value));
    showLines(drawn, isKnown(value), isKnown(gradient));
  }
}

function showLines(drawn, hasValue, hasGradient) {
  for (const line of drawn.querySelectorAll("tspan.value")) line.classList.toggle("unseen", !hasValue);
  for (const line of drawn.querySelectorAll("tspan.gradient")) line.classList.toggle("unseen", !hasGradient);
}
