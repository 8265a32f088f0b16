// Every pair with its slider, sorted and filtered, and one pair alone. Continues summary.js.

const KINDS = ["before", "after", "map", "error"]; // in the order of a pair's images in the file
const FIRST_CARDS = 120; // more cards than a screen has

// ---- pictures of one pair or place

const waiting = new Map(); // frame to element: their images have not been read from the file yet

/** Show the images of an element of the file in those of a frame, by their classes. */
function fill(frame, id, kinds = KINDS) {
  const element = $(id);
  const whole = element?.nextSibling || document.readyState !== "loading"; // it is in the page before it is complete
  if (!whole) return void waiting.set(frame, [id, kinds]);
  (element?.textContent.split(" ") ?? []).forEach((code, i) => {
    const image = frame.querySelector(`.${kinds[i]}`);
    if (image) image.src = `data:image/${code.startsWith("iVBOR") ? "png" : "jpeg"};base64,${code}`;
  });
}

const reading = setInterval(() => {
  if (document.readyState !== "loading") clearInterval(reading);
  const late = [...waiting];
  waiting.clear();
  late.forEach(([frame, [id, kinds]]) => fill(frame, id, kinds));
}, 150);

function setCut(frame, value) {
  const input = frame.querySelector("input");
  input.value = value; // keeps it in its range
  frame.style.setProperty("--cut", `${input.value}%`);
}

function shapeOf([width, height]) {
  return `--ratio: ${Math.min(2, Math.max(0.5, width / height))}`;
}

/** An empty frame in the shape of a pair; dragging moves the slider it will hold. */
function newFrame(pair) {
  const frame = make("div", { class: "frame", style: shapeOf(pair.size) });
  const slide = (event) => {
    const box = frame.getBoundingClientRect();
    setCut(frame, Math.round((100 * (event.clientX - box.left)) / box.width));
  };
  frame.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button") || event.button > 0) return;
    frame.setPointerCapture(event.pointerId);
    slide(event);
  });
  frame.addEventListener("pointermove", (event) => {
    if (frame.hasPointerCapture(event.pointerId)) slide(event);
  });
  return frame;
}

const picture = (kind, alt) => make("img", { class: kind, alt, decoding: "async", draggable: "false" });

/** Put pictures, slider and labels into a frame. */
function dress(frame, index) {
  const pair = pairs[index];
  const label = `Before and after: ${pair.name}`;
  const input = make("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": label });
  input.addEventListener("input", () => setCut(frame, input.value));
  frame.replaceChildren(
    picture("before", `${pair.name}, before`),
    picture("after", `${pair.name}, after`),
    picture("layer map", ""),
    picture("layer error", ""),
    make("span", { class: "handle" }),
    make("span", { class: "date left" }, "before"),
    make("span", { class: "date right" }, "after"),
    input,
  );
  setCut(frame, 50);
  fill(frame, `pixels-${index}`);
}

// ---- the gallery

const empty = (pair) => pair.tp + pair.fp + pair.fn === 0; // nothing to find and nothing found: 0/0 is no bad score
const names = new Intl.Collator("en", { numeric: true });
const lowered = pairs.map((pair) => pair.name.toLowerCase());
const byName = pairs.map((_, i) => i).sort((a, b) => names.compare(pairs[a].name, pairs[b].name) || a - b);
const f1 = (pair, otherwise) => (empty(pair) || !Number.isFinite(pair.f1) ? otherwise : pair.f1);
const SORTS = {
  name: ["Name", () => 0],
  share: ["Most change first", (a, b) => b.changed_share - a.changed_share],
  f1: ["Best F1 first", (a, b) => f1(b, -1) - f1(a, -1)],
  worst: ["Worst F1 first", (a, b) => f1(a, 2) - f1(b, 2) || b.fp + b.fn - a.fp - a.fn || 0],
};
const cards = []; // by pair, made when first shown
let order = byName;
let shown = []; // pairs, sorted and filtered
let later = 0; // the frame that adds cards out of sight

const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const frame = target.firstElementChild;
    if (!isIntersecting) frame.replaceChildren(); // the decoded pictures of 2,000 pairs would fill a phone
    else if (!frame.firstChild) {
      dress(frame, target.pair);
      const label = `Open ${pairs[target.pair].name}`;
      frame.append(make("button", { class: "open", "aria-label": label, title: "Open" }, "⤢"));
    }
  }
}, { rootMargin: "500px" });

function card(index) {
  const pair = pairs[index];
  const caption = make("div", { class: "caption" });
  caption.append(make("button", { class: "name", title: pair.name }, pair.name));
  caption.append(make("span", { class: "soft" }, `${percent(pair.changed_share)} changed`));
  if ("f1" in pair) {
    const text = empty(pair) ? "nothing to find" : `F1 ${(100 * pair.f1).toFixed(1)}`;
    caption.append(make("span", { class: empty(pair) ? "score soft" : "score" }, text));
  }
  const item = make("li", {}, newFrame(pair), caption);
  item.pair = index;
  near.observe(item);
  return item;
}

function list() {
  const words = $("filter").value.toLowerCase().split(/\s+/);
  shown = order.filter((index) => words.every((word) => lowered[index].includes(word)));
  const items = (from, to) => shown.slice(from, to).map((index) => (cards[index] ??= card(index)));
  $("list").replaceChildren(...items(0, FIRST_CARDS));
  cancelAnimationFrame(later); // the rest comes two frames later, so that typing never waits for 2,000 cards
  later = requestAnimationFrame(() => {
    later = requestAnimationFrame(() => $("list").append(...items(FIRST_CARDS)));
  });
  const all = many(pairs.length, "pair");
  $("count").textContent = shown.length === pairs.length ? all : `${grouped(shown.length)} of ${all}`;
}

function sort() {
  const compare = SORTS[$("sort").value][1];
  order = [...byName].sort((a, b) => compare(pairs[a], pairs[b])); // a stable sort: equals stay in order of name
  list();
}

// ---- what holds for gallery and single view

function setFade(value) {
  $("opacity").textContent = `.layer { opacity: ${value / 100}; }`; // a property of the page would restyle every card
  for (const input of document.querySelectorAll(".fade")) input.value = value;
}

function setLayer(layer) {
  document.body.dataset.layer = layer;
  for (const input of document.querySelectorAll(".choice input")) input.checked = input.value === layer;
}

function swatch(layer, label, colour) {
  return make("li", { class: layer }, make("i", { style: `background: rgb(${colour.join()})` }), label);
}

/** Legend of the error map; laid over a picture, its black is transparent and means nothing. */
function errorColours(over) {
  const colours = Object.entries(data.legend ?? {}).filter(([, colour]) => !over || colour.some(Boolean));
  return colours.map(([label, colour]) => swatch("error", label, colour));
}

function setUp() {
  for (const [key, [label]] of Object.entries(SORTS)) {
    if (scored || key === "name" || key === "share") $("sort").append(make("option", { value: key }, label));
  }
  const layers = { map: "Map", ...(scored && { error: "Errors" }), none: "None" };
  document.querySelectorAll(".choice").forEach((group, place) => {
    for (const [key, label] of Object.entries(layers)) {
      const input = make("input", { type: "radio", name: `layer-${place}`, value: key });
      input.addEventListener("change", () => setLayer(key));
      group.append(make("label", {}, input, label));
    }
  });
  for (const input of document.querySelectorAll(".fade")) input.addEventListener("input", () => setFade(input.value));
  $("legend").append(swatch("map", "changed", data.changed), ...errorColours(true));
  $("filter").addEventListener("input", list);
  $("sort").addEventListener("change", sort);
  $("list").addEventListener("click", (event) => {
    if (event.target.closest("button")) open(event.target.closest("li").pair);
  });
  setLayer("map");
  setFade(60);
  sort();
}

// ---- one pair alone

let current = 0; // its place among those shown

function show(place) {
  current = place;
  const index = shown[place];
  const pair = pairs[index];
  $("single-name").textContent = pair.name;
  $("place").textContent = `${grouped(place + 1)} of ${grouped(shown.length)}`;
  $("previous").disabled = place === 0;
  $("next").disabled = place === shown.length - 1;
  const [dates, errors] = [newFrame(pair), newFrame(pair)];
  dress(dates, index);
  const figures = [make("figure", {}, dates, make("figcaption", {}, "Before and after"))];
  if ("f1" in pair) {
    errors.classList.add("plain");
    errors.append(make("img", { class: "layer error", alt: `${pair.name}, error map` }));
    fill(errors, `pixels-${index}`);
    const legend = make("ul", { class: "legend" }, ...errorColours(false));
    figures.push(make("figure", {}, errors, make("figcaption", {}, "Error map", legend)));
  }
  for (const figure of figures) figure.style = `${dates.getAttribute("style")}; --figures: ${figures.length}`;
  $("stage").replaceChildren(...figures);
  $("numbers").replaceChildren(
    ...numbersOf(pair).map(([label, value]) => make("div", {}, make("span", {}, `${label} `), value)),
  );
  $("stage").querySelector("input").focus();
}

function numbersOf(pair) {
  const numbers = [["predicted change", percent(pair.changed_share)]];
  for (const key of ["f1", "iou", "precision", "recall"]) {
    if (key in pair) numbers.push([SCORES[key], empty(pair) ? "0/0" : percent(pair[key])]);
  }
  if ("fp" in pair) numbers.push(["false alarms", many(pair.fp, "pixel")], ["missed", many(pair.fn, "pixel")]);
  return numbers;
}

function open(index) {
  $("single").showModal();
  show(shown.indexOf(index));
}

function step(by) {
  if (current + by in shown) show(current + by);
}

$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("close").addEventListener("click", () => $("single").close());
$("single").addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault(); // left and right are for pairs; sliders also move by up and down
  step(by);
});
$("single").addEventListener("close", () => {
  const item = cards[shown[current]];
  item.scrollIntoView({ block: "nearest" });
  item.querySelector(".name").focus({ preventScroll: true });
});

setUp();
