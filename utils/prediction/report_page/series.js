// Places with more than two dates, each with a slider over its dates. Continues gallery.js.

/** A picture of each date and a layer of each later one; a slider shows one date, and the layers until then. */
function placeCard(place, number) {
  const later = place.dates.slice(1);
  const kinds = [...place.dates.map((_, i) => `date-${i}`), ...later.map((_, i) => `first-${i + 1}`)];
  const frame = make("div", { class: "frame still", style: shapeOf(place.size) });
  const range = { type: "range", min: 0, max: later.length, value: later.length, "aria-label": `Date: ${place.name}` };
  const [input, output] = [make("input", range), make("output", { class: "soft" })];
  const legend = later.map((_, i) => swatch("", `${place.meanings[i]} (${percent(place.shares[i])})`, place.colours[i]));
  const caption = [make("b", {}, place.name), output, input, make("ul", { class: "legend" }, ...legend)];
  const show = () => {
    const at = Number(input.value);
    [...frame.children].forEach((image, i) => { image.hidden = i > later.length ? i - later.length > at : i !== at; });
    output.textContent = `${place.dates[at]}, ${at + 1} of ${place.dates.length}`;
    input.setAttribute("aria-valuetext", place.dates[at]);
  };
  input.addEventListener("input", show);
  const item = make("li", {}, frame, make("div", { class: "caption" }, ...caption));
  new IntersectionObserver((entries) => {
    if (!entries.at(-1).isIntersecting) return frame.replaceChildren(); // as for pairs
    if (frame.firstChild) return;
    const alts = place.dates.map((date) => `${place.name}, ${date}`);
    frame.append(...kinds.map((kind, i) => picture(i > later.length ? `layer map ${kind}` : kind, alts[i] ?? "")));
    fill(frame, `dates-${number}`, kinds);
    show();
  }, { rootMargin: "500px" }).observe(item);
  show();
  return item;
}

$("series").hidden = !data.places?.length;
$("compared").textContent = data.compared ?? "";
$("places").append(...(data.places ?? []).map(placeCard));
