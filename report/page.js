"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const pop = document.getElementById("pop");
let open = null;                                       // the token that the popover is about

function el(name, text, parent) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}
const number = (x, digits = 2) => x.toFixed(digits).replace(/^-(0\.?0*)$/, "$1").replace("-", "−");
const shown = text => text.replace(/\n/g, "⏎");

function show(button) {
  const strip = button.closest(".strip"), side = strip.dataset.side;
  const row = data.examples[strip.dataset.e].answers[strip.dataset.a].tokens[button.dataset.t];
  const student = row[side], teacher = row.teacher;
  pop.replaceChildren();
  el("p", `“${shown(row.text)}”: divergence ${number(student.divergence)} nats${student.clipped ? ", clipped" : ", not clipped"}`, pop);
  const table = el("table", undefined, pop), head = el("tr", undefined, el("thead", undefined, table)), body = el("tbody", undefined, table);
  for (const name of ["student", "p", "teacher", "p"]) el("th", name, head);
  student.top.forEach(([text, p], i) => {
    const line = el("tr", undefined, body);
    for (const value of [shown(text), number(p, 3), shown(teacher.top[i][0]), number(teacher.top[i][1], 3)]) el("td", value, line);
  });
  for (const [name, who] of [["Student", student], ["Teacher", teacher]]) {
    el("p", `${name}: ${number(Math.exp(who.logprob), 3)} for this token, entropy ${number(who.entropy)} nats`, pop);
  }
  pop.hidden = false;
  if (open) open.removeAttribute("aria-describedby");
  open = button;
  button.setAttribute("aria-describedby", "pop");
  const at = button.getBoundingClientRect(), size = pop.getBoundingClientRect(), wide = document.documentElement.clientWidth;
  pop.style.left = Math.max(8, Math.min(at.left, wide - size.width - 8)) + scrollX + "px";
  const below = at.bottom + size.height + 8 < innerHeight || at.top < size.height + 8;
  pop.style.top = (below ? at.bottom + 6 : at.top - size.height - 6) + scrollY + "px";
}
function hide() {
  pop.hidden = true;
  if (open) open.removeAttribute("aria-describedby");
  open = null;
}

for (const strip of document.querySelectorAll(".strip")) {
  const tokens = [...strip.querySelectorAll(".t")];
  const go = (i, focus) => {                           // one stop of the Tab key for each strip, arrows within it
    tokens.forEach((t, k) => { t.tabIndex = k === i ? 0 : -1; });
    if (focus) tokens[i].focus();
  };
  go(0, false);
  tokens.forEach((t, i) => {
    t.addEventListener("mouseenter", () => show(t));
    t.addEventListener("mouseleave", () => { if (document.activeElement !== t) hide(); });
    t.addEventListener("focus", () => { go(i, false); show(t); });
    t.addEventListener("blur", hide);
    t.addEventListener("click", () => { t.focus(); show(t); });
    t.addEventListener("keydown", event => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tokens.length - 1 }[event.key];
      if (tokens[to]) { event.preventDefault(); go(to, true); }
    });
  });
}
addEventListener("keydown", event => { if (event.key === "Escape") hide(); });

const level = x => data.bins.filter(bin => Math.abs(x) >= bin).length;
for (const figure of document.querySelectorAll("figure.effects")) {
  const answer = data.examples[figure.dataset.e].answers[figure.dataset.a], out = figure.querySelector("output");
  const [how, measure] = figure.querySelectorAll("select");
  const draw = () => {
    const effects = answer.effects[measure.value];
    figure.querySelectorAll("tbody tr").forEach((line, i) => {
      const values = [effects.whole, ...effects[how.value], ...effects.control][i];
      line.querySelectorAll("td[data-v]").forEach((cell, t) => {
        const x = values[t], d = level(x);
        cell.className = "d" + d;
        cell.textContent = d ? (x > 0 ? "+" : "−") : "";
        cell.title = number(x, 3);
      });
      line.querySelector(".sum").textContent = number(values.reduce((a, b) => a + b, 0));
    });
  };
  how.addEventListener("change", draw);
  measure.addEventListener("change", draw);
  const tell = event => {
    const cell = event.target.closest("td[data-v]");
    if (!cell) return;
    const token = answer.tokens[cell.dataset.v].text, name = cell.parentNode.querySelector("th").textContent;
    out.textContent = `${name} on “${shown(token)}”: ${cell.title} nats`;
  };
  figure.addEventListener("click", tell);
  figure.addEventListener("mouseover", tell);
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => { d.open = true; }));
