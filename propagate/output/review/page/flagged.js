// The list of flagged frames, worst first, and what is said of the frame in view.

const list = byId("list");
const items = [];
const checked = storage.load();

const keyOf = (interval) => `${clip.frames[interval.first]}-${clip.frames[interval.last]}`;

function element(tag, kind, ...children) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.append(...children);
  return made;
}

function buildList(jump) {
  byId("nothing").hidden = clip.intervals.length > 0;
  byId("nothing").textContent = clip.nothing;
  byId("list-copy").hidden = clip.intervals.length === 0;
  for (const interval of clip.intervals) {
    const [first, worst, end] = [interval.first, interval.worst, interval.last].map((position) => clip.frames[position]);
    const fill = element("i");
    fill.style.width = `${Math.round(100 * interval.severity)}%`;
    const where = element("span", "where", String(worst),
      element("span", "span", first === end ? "" : `${first}\u2013${end}`),
      element("span", "meter", fill));
    const why = element("span", "why", ...interval.reasons.map((reason) => element("span", "", reason)));
    if (interval.more) why.append(element("span", "quiet", `and ${interval.more} more`));
    const button = element("button", "jump", where, why);
    button.type = "button";
    button.setAttribute("aria-label", `Frame ${worst}, of ${first} to ${end}: ${interval.reasons.join(", ")}`);
    button.addEventListener("click", () => jump(interval.worst));
    const box = element("input");
    box.type = "checkbox";
    box.setAttribute("aria-label", `Frames ${first} to ${end} are checked`);
    box.addEventListener("change", () => setChecked(interval, box.checked));
    const item = element("li", "", button, element("label", "check", box, "checked"));
    list.append(item);
    items.push({ interval, item, box });
  }
  byId("list-copy").addEventListener("click", (event) => copyText(framesLeft().join(","), event.target));
  showChecked();
}

/** Numbers of the worst frames that are not checked yet, worst first. */
function framesLeft() {
  return clip.intervals.filter((interval) => !checked.has(keyOf(interval))).map((interval) => clip.frames[interval.worst]);
}

function setChecked(interval, done) {
  if (done) checked.add(keyOf(interval));
  else checked.delete(keyOf(interval));
  storage.save(checked);
  showChecked();
}

function showChecked() {
  for (const { interval, item, box } of items) {
    const done = checked.has(keyOf(interval));
    item.classList.toggle("done", done);
    box.checked = done;
  }
  const done = clip.intervals.length - framesLeft().length;
  byId("progress").textContent = clip.intervals.length ? `${done} of ${clip.intervals.length} checked` : "";
}

const intervalAt = (position) =>
  clip.intervals.find((interval) => interval.first <= position && position <= interval.last);

/** The worst frame of the next flagged rows after (direction 1) or before (-1) a position. */
function nextFlagged(position, direction) {
  const worst = clip.intervals.map((interval) => interval.worst).sort((a, b) => a - b);
  return direction > 0 ? worst.find((other) => other > position) : worst.findLast((other) => other < position);
}

function showFrame(position) {
  const index = clip.frames[position];
  byId("now-frame").textContent = `Frame ${index}`;
  byId("now-name").textContent = clip.names[position] === String(index).padStart(5, "0") ? "" : clip.names[position];
  const reasons = (reasonsAt.get(position) ?? []).map((reason) => element("li", "flag", reason));
  if (givenAt.has(position)) reasons.unshift(element("li", "given", "labels given by you"));
  if (!reasons.length) reasons.push(element("li", "quiet", "nothing flagged"));
  byId("now-reasons").replaceChildren(...reasons);
  byId("fix").hidden = !clip.command;
  if (clip.command) {
    // The last part on one line: browsers would break it at its hyphens.
    byId("command").replaceChildren(`${clip.command} `, element("span", "", clip.fix.replace("FRAME", index)));
  }
  const current = intervalAt(position);
  for (const { interval, item } of items) {
    if (interval !== current) {
      item.removeAttribute("aria-current");
    } else if (!item.hasAttribute("aria-current")) {
      item.setAttribute("aria-current", "true");
      if (list.scrollHeight > list.clientHeight) item.scrollIntoView({ block: "nearest" });
    }
  }
}

function buildSummary() {
  document.title = `${clip.title} \u2013 review`;
  byId("title").textContent = clip.title;
  byId("facts").textContent = clip.facts;
  const terms = (pairs) => pairs.flatMap(([what, value]) => [element("dt", "", what), element("dd", "", value)]);
  byId("summary").append(...terms(clip.summary));
  byId("settings").hidden = !clip.settings.length;
  byId("settings").querySelector("dl").append(...terms(clip.settings));
  byId("about").open = clip.intervals.length < 3;
}
