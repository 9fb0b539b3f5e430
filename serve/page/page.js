// The page: it asks its own service, and puts whatever comes back into the page as text, never as markup.

import { draw, nearest } from "./diagram.js";

const MOST = 128; // inputs of one request
const VERDICTS = { can: "It can answer this", uncertain: "It may or may not answer this", cannot: "It cannot answer this" };
const DECISIONS = { answer: "let it answer", escalate: "escalate", abstain: "abstain" };
const SOURCES = {
  request: "the request's", key: "your key's", route: "the route's", default: "the default",
};
const state = { key: "", judge: null, said: { p_correct: null, threshold: null }, rows: [] };

const find = (id) => document.getElementById(id);
const percent = (share) => `${Math.round(100 * share)} %`;
const put = (name, text, kind = "") => {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = kind;
  return made;
};

const call = async (path, body) => {
  const headers = { ...(state.key && { Authorization: `Bearer ${state.key}` }), ...(body && { "Content-Type": "application/json" }) };
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  const said = await answer.json();
  if (answer.ok) return said;
  if (answer.status === 401) lock();
  throw new Error(said.error.message);
};

const tell = (message) => {
  find("alert").textContent = message;
  find("alert").hidden = !message;
};

/** Run `work` for the form, once at a time, and tell what goes wrong. */
const working = (form, work) => async (event) => {
  event?.preventDefault();
  if (form.getAttribute("aria-busy") === "true") return;
  form.setAttribute("aria-busy", "true");
  tell("");
  try {
    await work();
  } catch (error) {
    tell(error instanceof TypeError ? "The service cannot be reached: is it still running?" : `${error.message}.`);
  } finally {
    form.removeAttribute("aria-busy");
  }
};

const lock = () => {
  find("locked").hidden = false;
  if (!state.judge) ["asking", "batch"].forEach((id) => { find(id).hidden = true; });
  find("facts").textContent = "This service is for the holders of keys.";
};

const meet = async () => {
  const { data: [judge] } = await call("v1/models");
  state.judge = judge;
  const { calibration, reliability } = judge;
  find("facts").textContent = calibration
    ? `${judge.id} · calibrated on ${calibration.n} questions · “can” means ${judge.event}, of n trials k right`
    : `${judge.id} · not calibrated: it gives a verdict, and no probability`;
  find("locked").hidden = true;
  ["asking", "batch"].forEach((id) => { find(id).hidden = false; });
  const measured = Boolean(calibration && reliability);
  ["diagram", "trying"].forEach((id) => { find(id).hidden = !measured; });
  if (!measured) return;
  tryThreshold();
  show();
};

const tryThreshold = () => {
  const { reliability } = state.judge;
  const threshold = Number(find("threshold").value);
  const point = reliability.curve.reduce((best, other) =>
    (Math.abs(other.threshold - threshold) < Math.abs(best.threshold - threshold) ? other : best));
  find("at").textContent = percent(threshold);
  find("threshold").setAttribute("aria-valuetext", percent(threshold));
  find("outcome").textContent = point.accuracy === null
    ? `Nothing passes: of ${reliability.n} questions it was measured on, none reached this.`
    : `Answered: ${percent(point.coverage)} of all questions. Right: ${percent(point.accuracy)} of those answers. As measured on `
      + `${reliability.n} questions of its run; yours may differ.`;
};

const show = () => {
  const { judge: { reliability }, said: { p_correct: forecast, threshold } } = state;
  draw(find("drawing"), reliability, forecast, threshold);
  const bin = forecast === null ? null : nearest(reliability.bins, forecast);
  find("caption").textContent = bin
    ? `This question: ${percent(forecast)} forecast. Of the ${bin.questions} questions nearest to it in the judge's run, `
      + `forecast at ${percent(bin.p_correct)}, ${percent(bin.accuracy)} of the answers were right.`
    : "On the dotted line, questions forecast at 70 % have 70 % of their answers right; below it, the judge is too sure.";
};

const because = (said) => {
  const done = { answer: "Let it answer", escalate: "Escalate this question", abstain: "Abstain" }[said.decision];
  if (said.threshold_source === "none") return `${done}: this judge is not calibrated, so that no threshold can be held against it.`;
  if (said.threshold === null) return `${done}, by ${SOURCES[said.threshold_source]} promise of accuracy.`;
  const side = said.decision === "answer" ? "reaches" : "is below";
  return `${done}: that ${side} the threshold of ${percent(said.threshold)} (${SOURCES[said.threshold_source]}).`;
};

const ask = async () => {
  const question = find("question").value, context = find("context").value;
  const { data: [said] } = await call("v1/judgments", { input: question, context: context || null, model: state.judge.id });
  find("answer").replaceChildren(
    put("p", question.trim(), "asked"), put("p", VERDICTS[said.verdict], "finding"),
    ...(said.p_correct === null ? [] : [put("p", `${percent(said.p_correct)} right answers to expect.`)]),
    put("p", because(said)),
    ...(said.context_cut ? [put("p", "The context was too long and lost its end.", "quiet")] : []),
  );
  find("answer").firstChild.dir = "auto";
  state.said = said;
  if (!find("diagram").hidden) show();
};

const askMany = async () => {
  const questions = find("questions").value.split("\n").map((line) => line.trim()).filter(Boolean);
  state.rows = [];
  for (let start = 0; start < questions.length; start += MOST) {
    find("progress").textContent = `${start} of ${questions.length} judged`;
    const input = questions.slice(start, start + MOST);
    const { data } = await call("v1/judgments", { input, model: state.judge.id });
    state.rows.push(...data.map((said) => ({ question: input[said.index], ...said })));
  }
  find("progress").textContent = `${questions.length} of ${questions.length} judged`;
  find("table").tBodies[0].replaceChildren(...state.rows.map(row));
  ["table", "download"].forEach((id) => { find(id).hidden = !state.rows.length; });
};

const row = (said) => {
  const made = document.createElement("tr");
  const head = put("th", said.question);
  head.scope = "row";
  head.dir = "auto";
  made.append(head);
  if (said.error) {
    const told = put("td", said.error.message, "told");
    told.colSpan = 3;
    made.append(told);
  } else {
    const right = said.p_correct === null ? "–" : percent(said.p_correct);
    made.append(put("td", said.verdict), put("td", right, said.p_correct === null ? "" : "number"), put("td", DECISIONS[said.decision]));
  }
  return made;
};

/** One cell of a CSV file; what a spreadsheet would take for a formula is made text. */
const cell = (value) => {
  const text = String(value ?? "");
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return `"${safe.replaceAll('"', '""')}"`;
};

const download = () => {
  const names = ["question", "verdict", "p_correct", "decision", "threshold", "error"];
  const lines = state.rows.map((said) => names.map((name) => cell(name === "error" ? said.error?.message : said[name])).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${[names.join(","), ...lines].join("\r\n")}\r\n`], { type: "text/csv" }));
  link.download = "judgments.csv";
  link.click();
  URL.revokeObjectURL(link.href);
};

const unlock = async () => {
  state.key = find("key").value.trim();
  await meet();
  find("key").value = "";
  find("question").focus();
};

const forms = { ask, many: askMany, unlock };
Object.entries(forms).forEach(([id, work]) => find(id).addEventListener("submit", working(find(id), work)));
find("download").addEventListener("click", download);
find("threshold").addEventListener("input", tryThreshold);
document.querySelectorAll("form textarea").forEach((field) => field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) field.form.requestSubmit();
}));
working(document.body, meet)();
