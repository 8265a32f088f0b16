"use strict";
// Numbers and charts of the page that utils/prediction/report.py writes. Text is only ever set as text, never as markup.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const pairs = data.pairs;
const scores = data.scores ?? {};
const scored = pairs.some((pair) => "f1" in pair);
const SCORES = { f1: "F1", iou: "IoU", precision: "Precision", recall: "Recall", kappa: "Kappa" };
const OTHERS = { oa: "OA", miou: "mIoU", mpa: "MPA", fwiou: "FWIoU" };
const SVG = new Set(["svg", "rect", "path", "line", "circle", "text", "title"]);

const percent = (value, digits = 2) => (Number.isFinite(value) ? `${(100 * value).toFixed(digits)} %` : "–");
const grouped = (count) => count.toLocaleString("en");
const many = (count, word) => `${grouped(count)} ${word}${count === 1 ? "" : "s"}`;

function make(tag, attributes = {}, ...children) {
  const element = SVG.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function showSummary() {
  $("title").textContent = document.title = data.title ?? "Change report";
  const predicted = grouped(pairs.filter((pair) => pair.changed_share > 0).length);
  const labelled = grouped(pairs.filter((pair) => pair.tp + pair.fn > 0).length);
  const counts = scored ? `${labelled} labelled with change, ${predicted} predicted` : `${predicted} predicted`;
  const how = scored
    ? "Scores are of the changed class, all pixels of all pairs counted together."
    : "Without labels there are no scores.";
  $("lead").textContent = `${many(pairs.length, "pair")}, ${counts} with change. ${how}`;
  for (const remark of data.protocol?.remarks ?? []) $("lead").after(make("p", { class: "warning" }, remark));
  $("warning").hidden = data.protocol?.selected_on !== "test";
  const tile = (label, value, kind = "") =>
    make("div", { class: kind }, make("dt", {}, label), make("dd", {}, percent(value)));
  for (const [key, label] of Object.entries(SCORES)) {
    if (key in scores) $("tiles").append(tile(label, scores[key], key === "f1" ? "main" : ""));
  }
  const share = pairs.reduce((sum, pair) => sum + pair.changed_share, 0) / Math.max(pairs.length, 1);
  $("tiles").append(tile("Predicted change", share));
}

function showSettings() {
  const named = (settings) => Object.entries(settings).map(([key, value]) => [key.replaceAll("_", " "), said(value)]);
  const said = (value) => {
    if (value === null || typeof value !== "object") return String(value ?? "–");
    const parts = Array.isArray(value) ? value.map(said) : named(value).map(([key, text]) => `${key} ${text}`);
    return parts.join(", ") || "–";
  };
  const { remarks, ...settings } = data.protocol ?? {}; // remarks are above
  const rows = named(settings);
  for (const [key, label] of Object.entries(OTHERS)) if (key in scores) rows.push([label, percent(scores[key])]);
  $("settings").hidden = rows.length === 0;
  $("settings-list").append(...rows.map(([key, value]) => make("div", {}, make("dt", {}, key), make("dd", {}, value))));
}

function drawHistogram() {
  const limits = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3]; // nearly even steps of a logarithm
  const names = ["none", "< 0.1", "0.1–0.3", "0.3–1", "1–3", "3–10", "10–30", "> 30"];
  const counts = names.map(() => 0);
  for (const { changed_share: share } of pairs) {
    counts[share > 0 ? 1 + limits.filter((limit) => share >= limit).length : 0] += 1;
  }
  const words = names.map((name, i) => `${name}: ${grouped(counts[i])}`);
  const label = `Pairs by predicted change in percent. ${words.join("; ")}`;
  const svg = make("svg", { viewBox: "0 0 400 252", role: "img", "aria-label": label });
  const write = (x, y, text) => svg.append(make("text", { x, y, "text-anchor": "middle" }, text));
  names.forEach((name, i) => {
    const [x, height] = [4 + i * 49.5, (188 * counts[i]) / Math.max(...counts, 1)];
    const bar = make("rect", { class: "bar", x, y: 210 - height, width: 44, height, rx: 3 });
    bar.append(make("title", {}, words[i]));
    svg.append(bar);
    if (counts[i]) write(x + 22, 204 - height, grouped(counts[i]));
    write(x + 22, 228, name);
  });
  svg.append(make("line", { class: "grid", x1: 0, x2: 400, y1: 210.5, y2: 210.5 }));
  write(200, 249, "pixels of a pair predicted as changed (%)");
  $("histogram").append(svg);
}

function drawCurve() {
  const { precision, recall, threshold } = data.curve ?? {};
  if (!recall?.length) return;
  $("curve-panel").hidden = false;
  const [x, y] = [(value) => 34 + 356 * value, (value) => 196 - 174 * value];
  const label = "Precision against recall, a point a threshold";
  const svg = make("svg", { viewBox: "0 0 400 232", role: "img", "aria-label": label });
  const write = (at, height, anchor, text) =>
    svg.append(make("text", { x: at, y: height, "text-anchor": anchor }, text));
  for (const value of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(make("line", { class: "grid", x1: x(0), x2: x(1), y1: y(value), y2: y(value) }));
    write(28, y(value) + 4, "end", String(100 * value));
    write(x(value), 212, "middle", String(100 * value));
  }
  write(6, 9, "start", "precision (%)");
  write(x(0.5), 230, "middle", "recall (%)");
  const line = recall.map((value, i) => `${x(value)} ${y(precision[i])}`).join("L");
  svg.append(make("path", { class: "curve", d: `M${line}` }));
  let caption = "Point at the line.";
  if ("f1" in scores) {
    svg.append(make("circle", { class: "mark", r: 6, cx: x(scores.recall), cy: y(scores.precision) }));
    caption = `● this prediction, threshold ${data.protocol?.threshold ?? "unknown"}`;
  }
  const probe = make("circle", { class: "probe", r: 5 });
  const said = make("p", { class: "soft" }, caption);
  svg.append(probe);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = (400 * (event.clientX - box.left)) / box.width;
    const gap = (i) => Math.abs(x(recall[i]) - at);
    const best = recall.reduce((nearest, _, i) => (gap(i) < gap(nearest) ? i : nearest), 0);
    probe.setAttribute("cx", x(recall[best]));
    probe.setAttribute("cy", y(precision[best]));
    const both = `precision ${percent(precision[best], 1)}, recall ${percent(recall[best], 1)}`;
    said.textContent = `threshold ${threshold[best].toPrecision(3)}: ${both}`;
  });
  svg.addEventListener("pointerleave", () => { said.textContent = caption; });
  $("curve").append(svg, said);
}

showSummary();
showSettings();
drawHistogram();
drawCurve();
