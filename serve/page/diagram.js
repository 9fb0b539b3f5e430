// The reliability diagram: what a judge's forecasts came to on the questions it was measured on, and where one forecast lies.

const SIZE = 300, LEFT = 58, TOP = 14, RIGHT = 16, BOTTOM = 40;
const across = (share) => LEFT + share * SIZE;
const down = (share) => TOP + (1 - share) * SIZE;

const element = (name, attributes, text) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  if (text !== undefined) made.textContent = text;
  return made;
};
const line = (kind, [x1, y1], [x2, y2]) =>
  element("line", { class: kind, x1: across(x1), y1: down(y1), x2: across(x2), y2: down(y2) });
const dot = (kind, x, y, r) => element("circle", { class: kind, cx: across(x), cy: down(y), r });
const label = (x, y, anchor, text, kind = "") => element("text", { x, y, "text-anchor": anchor, class: kind }, text);

const frame = () => [
  element("rect", { class: "axis", x: LEFT, y: TOP, width: SIZE, height: SIZE }),
  line("ideal", [0, 0], [1, 1]),
  ...[0, 0.5, 1].flatMap((share) => [
    label(across(share), TOP + SIZE + 16, "middle", `${100 * share} %`),
    label(LEFT - 6, down(share) + 4, "end", `${100 * share} %`),
  ]),
  label(across(0.5), TOP + SIZE + 34, "middle", "right answers, as forecast"),
  element("text", { "text-anchor": "middle", transform: `translate(11 ${down(0.5)}) rotate(-90)` }, "right answers, as measured"),
];

const curve = (bins) => [
  element("polyline", {
    class: "curve", points: bins.map((bin) => `${across(bin.p_correct)},${down(bin.accuracy)}`).join(" "),
  }),
  ...bins.map((bin) => dot("bin", bin.p_correct, bin.accuracy, 3.5)),
];

const limit = (threshold) => [
  line("line", [threshold, 0], [threshold, 1]),
  label(across(threshold) + (threshold > 0.8 ? -6 : 6), TOP + SIZE - 8, threshold > 0.8 ? "end" : "start", "threshold"),
];

const mark = (forecast, measured) => [
  line("here", [forecast, 0], [forecast, 1]),
  dot("spot", forecast, measured, 7),
  label(across(forecast) + (forecast > 0.8 ? -8 : 8), TOP + 14, forecast > 0.8 ? "end" : "start", "this question", "marked"),
];

/** The bin whose mean forecast is nearest to `forecast`. */
export const nearest = (bins, forecast) =>
  bins.reduce((best, bin) => (Math.abs(bin.p_correct - forecast) < Math.abs(best.p_correct - forecast) ? bin : best));

/** Draw `reliability` into `place`, with the forecast of a question and the threshold it was held to; null where there is none. */
export const draw = (place, reliability, forecast, threshold) => {
  const bins = reliability.bins;
  const svg = element("svg", {
    role: "img", viewBox: `0 0 ${LEFT + SIZE + RIGHT} ${TOP + SIZE + BOTTOM}`,
    "aria-label": `Reliability diagram: ${bins.length} groups of questions, forecast against measured`,
  });
  svg.append(...frame(), ...(threshold === null ? [] : limit(threshold)), ...curve(bins));
  if (forecast !== null) svg.append(...mark(forecast, nearest(bins, forecast).accuracy));
  place.replaceChildren(svg);
};
