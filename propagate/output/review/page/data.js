"use strict";

// What Python wrote: numbers of the whole clip, and a block for each picture in this page.
const clip = JSON.parse(document.getElementById("clip").textContent);
const byId = (id) => document.getElementById(id);

// Positions count labelled frames from 0; indices are the frames' numbers in the clip.
const last = clip.frames.length - 1;
const positionOf = new Map(clip.frames.map((index, position) => [index, position]));
const reasonsAt = new Map(clip.reasons);
const givenAt = new Set(clip.given);

/** The position nearest to `position` among those that have a picture here. */
function nearestShown(position) {
  return clip.shown.reduce((best, other) =>
    Math.abs(other - position) < Math.abs(best - position) ? other : best);
}

/** The position of the labelled frame nearest to frame number `index`. */
function nearestPosition(index) {
  if (positionOf.has(index)) return positionOf.get(index);
  let best = 0;
  clip.frames.forEach((other, position) => {
    if (Math.abs(other - index) < Math.abs(clip.frames[best] - index)) best = position;
  });
  return best;
}

/** Labels of every pixel, as positions in `clip.objects` from 1, from their run lengths. */
function decodeRuns(text, length) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const labels = new Uint16Array(length);
  let at = 0;
  // Numbers have 7 bits a byte, lowest first; the highest bit says that more follow.
  const number = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++];
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
  };
  for (let start = 0; at < bytes.length;) {
    const label = number();
    const end = start + number();
    labels.fill(label, start, end);
    start = end;
  }
  return labels;
}

const CACHED = 12;
const cache = new Map();

/** The decoded picture at a position that has one, and its labels or points. */
function loadPicture(position) {
  if (!cache.has(position)) {
    const block = JSON.parse(byId(`picture-${position}`).textContent);
    const image = new Image();
    image.src = `data:image/jpeg;base64,${block.jpeg}`;
    const labels = block.runs === undefined
      ? null : decodeRuns(block.runs, clip.shownSize[0] * clip.shownSize[1]);
    cache.set(position, image.decode().then(() => ({ image, labels, points: block.points })));
    if (cache.size > CACHED) cache.delete(cache.keys().next().value);
  }
  return cache.get(position);
}

// Some browsers give files no storage; the page works without.
const storage = {
  key: `propagate-review ${clip.identity}`,
  load() {
    try {
      return new Set(JSON.parse(localStorage.getItem(this.key) ?? "[]"));
    } catch {
      return new Set();
    }
  },
  save(set) {
    try {
      localStorage.setItem(this.key, JSON.stringify([...set]));
    } catch {
      // Marks last until the page is closed.
    }
  },
};

/** Copy text, and say so on the button. */
async function copyText(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1200);
}
