// What is in view, and everything that changes it.

const FORMS = ["both", "fill", "outline"];
const view = { position: 0, overlay: true, form: "both", opacity: 0.4, names: false, hidden: new Set() };
let playing = null;
let drawing = 0;
let naming = null;

/** Go to the frame with a picture that is nearest to `position`. */
function goTo(position, { note = "" } = {}) {
  view.position = nearestShown(Math.min(last, Math.max(0, position)));
  const index = clip.frames[view.position];
  byId("slider").value = view.position;
  byId("slider").setAttribute("aria-valuetext", `frame ${index}`);
  if (document.activeElement !== byId("goto")) byId("goto").value = index;
  byId("missing").textContent = note;
  clearTimeout(naming);
  naming = setTimeout(nameFrame, 250);
  showFrame(view.position);
  showValues(view.position, view.hidden);
  return redraw();
}

/** Put the frame into the address, once it stays: browsers limit how often that may be done. */
function nameFrame() {
  try {
    history.replaceState(null, "", `#${clip.frames[view.position]}`);
  } catch {
    // Some refuse it for files.
  }
}

/** Go to a frame number; say so where this page has another one instead. */
function goToFrame(index) {
  const position = nearestShown(nearestPosition(index));
  const note = clip.frames[position] === index ? "" : `Frame ${index} is not in this page; nearest shown.`;
  return goTo(position, { note });
}

/** Draw the frame in view, unless another one is in view by the time it is decoded. */
async function redraw() {
  const ticket = ++drawing;
  const picture = await loadPicture(view.position);
  if (ticket !== drawing) return;
  drawPicture(picture, view);
  canvas.setAttribute("aria-label", `Frame ${clip.frames[view.position]}, labels ${view.overlay ? "shown" : "hidden"}`);
  canvas.dataset.frame = clip.frames[view.position];
}

/** Move by a number of frames among those in this page. */
function step(count) {
  const at = clip.shown.indexOf(view.position) + count;
  return goTo(clip.shown[Math.min(clip.shown.length - 1, Math.max(0, at))]);
}

function jumpFlagged(direction) {
  const position = nextFlagged(view.position, direction);
  if (position !== undefined) goTo(position);
}

function setPlaying(on) {
  clearTimeout(playing);
  playing = null;
  byId("play-icon").setAttribute("d", on ? "M3 2h3.5v12H3zM9.5 2H13v12H9.5z" : "M4 2l9 6-9 6z");
  byId("play").setAttribute("aria-label", on ? "Pause" : "Play");
  if (!on) return;
  if (view.position === clip.shown.at(-1)) goTo(0);
  const tick = async () => {
    const started = performance.now();
    await step(1);
    if (playing === null) return;
    if (view.position === clip.shown.at(-1)) setPlaying(false);
    else playing = setTimeout(tick, Math.max(0, 1000 / clip.fps - (performance.now() - started)));
  };
  playing = setTimeout(tick, 0);
}

function setOverlay(on) {
  view.overlay = byId("overlay").checked = on;
  redraw();
}

function setForm(form) {
  view.form = byId("form").value = form;
  redraw();
}

function toggleObject(number) {
  if (number >= clip.objects.length) return;
  if (!view.hidden.delete(number)) view.hidden.add(number);
  showValues(view.position, view.hidden);
  redraw();
}

function showAll() {
  view.hidden.clear();
  showValues(view.position, view.hidden);
  redraw();
}

const KEYS = {
  ArrowLeft: (event) => step(event.shiftKey ? -10 : -1),
  ArrowRight: (event) => step(event.shiftKey ? 10 : 1),
  Home: () => goTo(0),
  End: () => goTo(last),
  " ": () => setPlaying(playing === null),
  o: () => setOverlay(!view.overlay),
  f: () => clip.kind === "masks" && setForm(FORMS[(FORMS.indexOf(view.form) + 1) % FORMS.length]),
  n: () => jumpFlagged(1),
  p: () => jumpFlagged(-1),
  c: () => {
    const interval = intervalAt(view.position);
    if (interval) setChecked(interval, !checked.has(keyOf(interval)));
  },
  "?": () => byId("help").showModal(),
  0: showAll,
};

/** Whether a control that has the focus needs a key for itself. */
function taken(event) {
  const { target } = event;
  if (byId("help").open || event.ctrlKey || event.metaKey || event.altKey) return true;
  if (target.matches("select, input[type=number]")) return true;
  if (event.key === " ") return target.matches("button, summary, input[type=checkbox]");
  return target === byId("opacity") && event.key.startsWith("Arrow");
}

document.addEventListener("keydown", (event) => {
  if (taken(event)) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (/^[1-9]$/.test(key)) toggleObject(Number(key) - 1);
  else if (Object.hasOwn(KEYS, key)) KEYS[key](event);
  else return;
  event.preventDefault();
});

function connect() {
  byId("slider").max = last;
  byId("slider").addEventListener("input", (event) => goTo(Number(event.target.value)));
  byId("goto").min = clip.frames[0];
  byId("goto").max = clip.frames[last];
  byId("goto").addEventListener("change", (event) => event.target.value !== "" && goToFrame(Number(event.target.value)));
  byId("goto").addEventListener("blur", (event) => { event.target.value = clip.frames[view.position]; });
  byId("play").addEventListener("click", () => setPlaying(playing === null));
  byId("previous").addEventListener("click", () => jumpFlagged(-1));
  byId("next").addEventListener("click", () => jumpFlagged(1));
  byId("overlay").addEventListener("change", (event) => setOverlay(event.target.checked));
  byId("form").addEventListener("change", (event) => setForm(event.target.value));
  byId("opacity").addEventListener("input", (event) => {
    view.opacity = Number(event.target.value) / 100;
    redraw();
  });
  byId("names").addEventListener("change", (event) => {
    view.names = event.target.checked;
    redraw();
  });
  byId("command-copy").addEventListener("click", (event) => copyText(byId("command").textContent, event.target));
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  addEventListener("hashchange", openHash);
  followPointer((position) => goTo(position));
  new ResizeObserver(() => {
    fitCanvas();
    drawTracks();
    redraw();
  }).observe(stage);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawTracks);
}

/** Open the frame that the address ends in, else the worst one, else the first. */
function openHash() {
  const match = /^#(\d+)$/.exec(location.hash);
  if (match) goToFrame(Number(match[1]));
  else goTo(clip.intervals.length ? clip.intervals[0].worst : 0);
}

byId("form-label").hidden = clip.kind !== "masks";
byId("names-label").hidden = clip.kind === "masks";
if (clip.kind !== "masks") {
  view.opacity = 1;
  byId("opacity").value = 100;
}
buildSummary();
buildList((position) => goTo(position));
buildTracks(toggleObject);
connect();
fitCanvas();
openHash();
drawTracks();
