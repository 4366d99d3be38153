// The picture with its labels.

const stage = byId("stage");
const canvas = byId("picture");
const [shownWidth, shownHeight] = clip.shownSize;
const tint = document.createElement("canvas");
tint.width = shownWidth;
tint.height = shownHeight;

const HALO = [20, 20, 20];

/** Fit the canvas into the stage, sharp on any screen. */
function fitCanvas() {
  const scale = Math.min(stage.clientWidth / shownWidth, stage.clientHeight / shownHeight);
  const [width, height] = [shownWidth * scale, shownHeight * scale].map((side) => Math.max(1, Math.floor(side)));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * devicePixelRatio);
  canvas.height = Math.round(height * devicePixelRatio);
}

function drawPicture(picture, view) {
  const context = canvas.getContext("2d");
  context.globalAlpha = 1;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture.image, 0, 0, canvas.width, canvas.height);
  if (!view.overlay) return;
  if (picture.labels) drawMasks(context, picture.labels, view);
  else drawPoints(context, picture.points, view);
}

function drawMasks(context, labels, view) {
  const data = new ImageData(shownWidth, shownHeight);
  const centres = paintMasks(data.data, labels, view);
  tint.getContext("2d").putImageData(data, 0, 0);
  context.drawImage(tint, 0, 0, canvas.width, canvas.height);
  if (clip.objects.length > 1) drawNumbers(context, centres);
}

/** Fill RGBA pixels; returns [sum of x, sum of y, pixels] of each object that is shown. */
function paintMasks(pixels, labels, view) {
  const alpha = view.form === "outline" ? 0 : Math.round(255 * view.opacity);
  const outlined = view.form !== "fill";
  const shows = [false, ...clip.objects.map((_, position) => !view.hidden.has(position))];
  const colors = [HALO, ...clip.objects.map((object) => object.color)];
  const centres = clip.objects.map(() => [0, 0, 0]);
  let at = 0;
  for (let y = 0; y < shownHeight; y++) {
    for (let x = 0; x < shownWidth; x++, at++) {
      const label = shows[labels[at]] ? labels[at] : 0;
      const edge = outlined && meetsOther(labels, at, x, y, label, shows);
      if (!label && !edge) continue;
      const [red, green, blue] = colors[label];
      const to = 4 * at;
      pixels[to] = red;
      pixels[to + 1] = green;
      pixels[to + 2] = blue;
      pixels[to + 3] = edge ? (label ? 255 : 150) : alpha;
      if (label) {
        const centre = centres[label - 1];
        centre[0] += x;
        centre[1] += y;
        centre[2] += 1;
      }
    }
  }
  return centres;
}

function meetsOther(labels, at, x, y, label, shows) {
  const differs = (other) => (shows[labels[other]] ? labels[other] : 0) !== label;
  return (x > 0 && differs(at - 1)) || (x + 1 < shownWidth && differs(at + 1))
    || (y > 0 && differs(at - shownWidth)) || (y + 1 < shownHeight && differs(at + shownWidth));
}

/** Numbers tell objects apart for those who can't by colour. */
function drawNumbers(context, centres) {
  const scale = canvas.width / shownWidth;
  centres.forEach(([x, y, count], position) => {
    if (count) {
      drawText(context, String(clip.objects[position].id), (x / count) * scale, (y / count) * scale, "center");
    }
  });
}

function drawText(context, text, x, y, align) {
  context.font = `600 ${Math.round(12 * devicePixelRatio)}px system-ui, sans-serif`;
  context.textAlign = align;
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = 3 * devicePixelRatio;
  context.strokeStyle = "rgb(20 20 20 / 0.85)";
  context.strokeText(text, x, y);
  context.fillStyle = "#fff";
  context.fillText(text, x, y);
}

/** Points [x, y, visible] in pixels of the embedded picture, or null where they have no place. */
function drawPoints(context, points, view) {
  const scale = canvas.width / shownWidth;
  const places = points.map((point, position) =>
    point && !view.hidden.has(position) ? [point[0] * scale, point[1] * scale, point[2]] : null);
  context.globalAlpha = view.opacity;
  drawBones(context, places);
  const radius = pointRadius(places);
  places.forEach((place, position) => place && drawPoint(context, place, clip.objects[position].color, radius));
  if (!view.names) return;
  places.forEach((place, position) => {
    if (place) drawText(context, clip.objects[position].name, place[0] + radius + 3 * devicePixelRatio, place[1], "left");
  });
}

function drawBones(context, places) {
  const ends = clip.bones.map(([a, b]) => [places[a], places[b]]).filter(([a, b]) => a?.[2] && b?.[2]);
  for (const [width, color] of [[3.5, "rgb(20 20 20 / 0.8)"], [1.5, "#fff"]]) {
    context.lineWidth = width * devicePixelRatio;
    context.strokeStyle = color;
    context.beginPath();
    for (const [a, b] of ends) {
      context.moveTo(a[0], a[1]);
      context.lineTo(b[0], b[1]);
    }
    context.stroke();
  }
}

/** A visible point is a disc, a hidden one a ring. */
function drawPoint(context, [x, y, visible], [red, green, blue], radius) {
  const color = `rgb(${red} ${green} ${blue})`;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.strokeStyle = "rgb(20 20 20 / 0.9)";
  if (visible) {
    context.lineWidth = 2 * devicePixelRatio;
    context.stroke();
    context.fillStyle = color;
    context.fill();
  } else {
    context.lineWidth = 3.5 * devicePixelRatio;
    context.stroke();
    context.lineWidth = 1.5 * devicePixelRatio;
    context.strokeStyle = color;
    context.stroke();
  }
}

/** As large as is good to see, without covering the neighbours. */
function pointRadius(places) {
  const known = places.filter(Boolean);
  const nearest = known.map((a) => Math.min(...known.filter((b) => b !== a).map((b) => Math.hypot(a[0] - b[0], a[1] - b[1]))));
  nearest.sort((a, b) => a - b);
  const apart = nearest.length > 1 ? nearest[Math.floor(nearest.length / 2)] : Infinity;
  return Math.max(2.5, Math.min(5, apart / devicePixelRatio / 3)) * devicePixelRatio;
}
