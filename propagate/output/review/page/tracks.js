// The timeline: marks of flagged and given frames, and a curve per object.

const INSET = 8; // half of the slider's thumb, so that all share one axis
const tracks = byId("tracks");
const rows = [];

function buildTracks(toggle) {
  byId("curve-of").textContent = clip.curve;
  tracks.classList.toggle("many", clip.objects.length > 6);
  tracks.classList.toggle("few", clip.objects.length < 3);
  clip.objects.forEach((object, position) => {
    const lane = document.createElement("div");
    lane.className = "lane";
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.title = position < 9 ? `Show or hide (${position + 1})` : "Show or hide";
    box.addEventListener("change", () => toggle(position));
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.textContent = object.id;
    swatch.style.background = `rgb(${object.color.join(" ")})`;
    const name = document.createElement("span");
    name.className = "name";
    name.textContent = name.title = object.name;
    label.append(box, swatch, name);
    const curve = document.createElement("canvas");
    curve.setAttribute("role", "img");
    curve.setAttribute("aria-label", describeTrack(object));
    const value = document.createElement("span");
    value.className = "value";
    lane.append(label, curve, value);
    tracks.append(lane);
    rows.push({ lane, box, curve, value });
  });
  buildLegend();
}

function describeTrack(object) {
  const known = object.curve.filter((value) => value !== null);
  if (!known.length) return `${object.name}: no values`;
  const lowest = Math.min(...known);
  const where = clip.frames[object.curve.indexOf(lowest)];
  return `${clip.curve} of ${object.name}: lowest ${format(lowest)} at frame ${where}`;
}

const format = (value) => (value === null ? "" : value.toFixed(2).replace(/^0/, ""));

function showValues(position, hidden) {
  rows.forEach((row, number) => {
    const value = clip.objects[number].curve[position];
    row.value.textContent = format(value);
    row.value.classList.toggle("low", clip.confident && value !== null && value < clip.threshold);
    row.box.checked = !hidden.has(number);
    row.lane.classList.toggle("off", hidden.has(number));
  });
  byId("lanes").style.setProperty("--at", last ? position / last : 0);
}

/** Give a canvas its pixels; returns a context that counts in CSS pixels, and the size. */
function prepare(target) {
  const [width, height] = [target.clientWidth, target.clientHeight];
  target.width = Math.max(1, Math.round(width * devicePixelRatio));
  target.height = Math.max(1, Math.round(height * devicePixelRatio));
  const context = target.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  return { context, width, height, x: (position) => INSET + (width - 2 * INSET) * (last ? position / last : 0) };
}

const themed = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function drawTracks() {
  drawMarks();
  rows.forEach((row, number) => drawTrack(row.curve, clip.objects[number]));
  for (const sample of byId("legend").querySelectorAll("canvas")) {
    const { context, width, height } = prepare(sample);
    drawBand(context, sample.dataset.state, 0, width, height);
  }
}

function drawMarks() {
  const { context, width, height, x } = prepare(byId("marks"));
  const step = last ? (width - 2 * INSET) / last : 0;
  if (clip.shown.length < clip.frames.length) {
    context.fillStyle = themed("--line");
    for (const position of clip.shown) context.fillRect(x(position), height - 3, 1, 3);
  }
  context.fillStyle = themed("--warn-soft");
  for (const { first, last: end } of clip.intervals) {
    context.fillRect(x(first) - step / 2, 4, Math.max(2, x(end) - x(first) + step), height - 8);
  }
  context.fillStyle = themed("--warn");
  for (const { worst } of clip.intervals) drawMark(context, x(worst), height / 2, [[0, -4.5], [4.5, 4], [-4.5, 4]]);
  context.fillStyle = themed("--accent");
  for (const position of clip.given) drawMark(context, x(position), height / 2, [[0, -5], [4.5, 0], [0, 5], [-4.5, 0]]);
}

function drawMark(context, x, y, corners) {
  context.beginPath();
  corners.forEach(([right, down]) => context.lineTo(x + right, y + down));
  context.fill();
}

function drawTrack(target, object) {
  const { context, width, height, x } = prepare(target);
  const step = last ? (width - 2 * INSET) / last : 0;
  for (const [first, end, state] of bands(object.states)) {
    drawBand(context, state, Math.max(0, x(first) - step / 2), Math.min(width, x(end) + step / 2), height);
  }
  const y = (value) => 3 + (height - 6) * (1 - value);
  if (clip.confident) drawThreshold(context, width, y(clip.threshold));
  drawCurve(context, object.curve, x, y);
  context.fillStyle = themed("--accent");
  [...object.states].forEach((state, position) => {
    if (state === "g" && object.curve[position] !== null) drawMark(context, x(position), y(object.curve[position]), [[0, -4], [4, 0], [0, 4], [-4, 0]]);
  });
}

/** Rows of frames in a state that is shown as a band: [first, last, state]. */
function bands(states) {
  const found = [];
  for (const match of states.matchAll(/o+|l+|a+/g)) {
    found.push([match.index, match.index + match[0].length - 1, match[0][0]]);
  }
  return found;
}

/** Colour and pattern, so that either is enough: stripes for occluded, crosses for lost. */
function drawBand(context, state, from, to, height) {
  const color = { o: "#7a869455", l: "#d0562f55", a: "#7a869426" }[state];
  context.save();
  context.beginPath();
  context.rect(from, 0, Math.max(1.5, to - from), height);
  context.clip();
  context.fillStyle = color;
  context.fillRect(from, 0, Math.max(1.5, to - from), height);
  context.strokeStyle = color.slice(0, 7) + (state === "l" ? "99" : "66");
  context.lineWidth = 1;
  context.beginPath();
  const lean = height;
  for (let x = Math.floor((from - lean) / 6) * 6; state !== "a" && x < to; x += 6) {
    context.moveTo(x, height);
    context.lineTo(x + lean, 0);
    if (state === "l") {
      context.moveTo(x, 0);
      context.lineTo(x + lean, height);
    }
  }
  context.stroke();
  context.restore();
}

function drawThreshold(context, width, y) {
  context.strokeStyle = themed("--line");
  context.setLineDash([3, 3]);
  context.beginPath();
  context.moveTo(INSET, y);
  context.lineTo(width - INSET, y);
  context.stroke();
  context.setLineDash([]);
}

/** The curve; what lies below the threshold in the colour of warnings, and thicker. */
function drawCurve(context, curve, x, y) {
  const low = (value) => clip.confident && value < clip.threshold;
  context.lineJoin = "round";
  for (const warned of [false, true]) {
    context.strokeStyle = context.fillStyle = themed(warned ? "--warn" : "--curve");
    context.lineWidth = warned ? 2 : 1.25;
    context.beginPath();
    curve.forEach((value, position) => {
      if (value === null || (warned && !low(value))) return;
      const before = position ? curve[position - 1] : null;
      if (before === null) context.rect(x(position) - 0.5, y(value) - 0.5, 1, 1);
      else context.moveTo(x(position - 1), y(before));
      context.lineTo(x(position), y(value));
    });
    context.stroke();
  }
}

function buildLegend() {
  const seen = new Set(clip.objects.flatMap((object) => [...object.states]));
  const legend = byId("legend");
  const add = (text, kind, state) => {
    const item = document.createElement("span");
    if (state) {
      const sample = document.createElement("canvas");
      sample.dataset.state = state;
      item.append(sample);
    } else {
      item.className = kind;
    }
    item.append(text);
    legend.append(item);
  };
  if (clip.intervals.length) add("flagged, worst frame", "flag");
  if (clip.given.length) add("given", "given");
  for (const [state, text] of Object.entries(clip.stateNames)) if (seen.has(state)) add(text, "", state);
}

/** Let a click or drag on the curves choose a position. */
function followPointer(choose) {
  const lanes = byId("lanes");
  const go = (event) => {
    const box = byId("marks").getBoundingClientRect();
    const share = (event.clientX - box.left - INSET) / (box.width - 2 * INSET);
    choose(Math.round(Math.min(1, Math.max(0, share)) * last));
  };
  lanes.addEventListener("pointerdown", (event) => {
    if (event.target.tagName !== "CANVAS" || event.button) return;
    lanes.setPointerCapture(event.pointerId);
    go(event);
  });
  lanes.addEventListener("pointermove", (event) => {
    if (lanes.hasPointerCapture(event.pointerId)) go(event);
  });
}
