"use strict";
(() => {
  const rows = JSON.parse(document.getElementById("scores").textContent);
  const correct = [0];
  rows.forEach(([, accuracy]) => correct.push(correct[correct.length - 1] + accuracy));
  const total = correct[rows.length];
  const percent = (share) => (100 * share).toFixed(1) + " %";
  const field = (id) => document.getElementById(id);
  const amount = (id) => Math.max(0, Number(field(id).value) || 0);
  const passing = (threshold) => {
    let low = 0, high = rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows[middle][0] >= threshold) low = middle + 1; else high = middle;
    }
    return low;
  };
  const cost = (answered) => {
    const wrong = answered - correct[answered];
    return amount("judging") + (wrong * amount("wrong") + answered * amount("answering")
      + (rows.length - answered) * amount("escalating")) / rows.length;
  };
  const show = () => {
    const threshold = Number(field("threshold").value);
    const answered = passing(threshold);
    field("at").textContent = threshold.toFixed(2);
    field("coverage").textContent = percent(answered / rows.length);
    field("accuracy").textContent = answered ? percent(correct[answered] / answered) : "nothing is answered";
    field("held").textContent = answered < rows.length
      ? percent((total - correct[answered]) / (rows.length - answered)) : "nothing is held back";
    const all = amount("answering") + (rows.length - total) * amount("wrong") / rows.length;
    let best = 0;
    for (let step = 0; step <= 100; step += 1) {
      if (cost(passing(step / 100)) < cost(passing(best / 100))) best = step;
    }
    const judged = cost(answered), cheapest = cost(passing(best / 100));
    field("all").textContent = all.toFixed(3);
    field("here").textContent = judged.toFixed(3);
    field("cheapest").textContent = cheapest.toFixed(3) + " at " + (best / 100).toFixed(2);
    field("worth").textContent = cheapest < Math.min(all, amount("escalating"))
      ? "A judge is worth it for this traffic: it saves " + percent(1 - cheapest / Math.min(all, amount("escalating"))) + " of the cheaper way without one."
      : "A judge is not worth it for this traffic: " + (all <= amount("escalating") ? "answer everything." : "escalate everything.");
  };
  document.querySelectorAll("#threshold, .cost input").forEach((input) => input.addEventListener("input", show));
  field("play").hidden = false;
  show();
})();
