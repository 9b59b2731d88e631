"""How the page of a sweep looks, light, dark, on a phone and on paper, and what scripts add to it."""

from __future__ import annotations

from agent_sft.report.charts import KINDS

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --link: #0060a0; --focus: #0060a0; --tint: #f5f6f8;
  --bad: #a3320b; --s0: #0072b2; --s1: #c44e00; --s2: #00785a; --s3: #a2447a; --s4: #7d6200; --s5: #4a4f57;
  --s6: #2b6cd4; --s7: #8a3324; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --text: #e8eaee; --soft: #a9b1bc;
  --line: #363c46; --link: #7cc4f5; --focus: #7cc4f5; --tint: #1d2127; --bad: #ff9d73; --s0: #56b4e9;
  --s1: #f58b4c; --s2: #3ccb9f; --s3: #e69cc7; --s4: #e6b422; --s5: #c3c8d0; --s6: #8fb4ff; --s7: #e59a8b; } }
body { background: var(--paper); max-width: 68rem; line-height: 1.55; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; border-top: 1px solid var(--line); padding-top: 1.4rem; margin-top: 2.2rem; }
h3 { font-size: 1.02rem; margin: 1.6rem 0 .4rem; } section { break-inside: auto; padding-bottom: 0; }
a { color: var(--link); } :focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: .5rem; background: var(--paper); padding: .5rem; }
.question { font-size: 1.1rem; color: var(--soft); margin: .2rem 0 .6rem; max-width: 46rem; }
.facts { display: flex; flex-wrap: wrap; gap: .2rem 1.6rem; padding: 0; margin: .6rem 0; list-style: none;
  color: var(--soft); font-size: .92rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; list-style: none; font-size: .95rem; }
nav a { display: inline-block; padding: .2rem 0; }
.answer { font-size: 1.2rem; line-height: 1.5; max-width: 50rem; margin: .6rem 0;
  border-left: 4px solid var(--s0); padding: .1rem 0 .1rem 1rem; }
.further { padding-left: 1.2rem; max-width: 52rem; } .further li { margin: .3rem 0; }
.warn { border-left: 4px solid var(--bad); background: var(--tint); padding: .5rem .9rem; margin: .8rem 0; }
.wide { overflow-x: auto; margin: .8rem 0 .6rem; }
.wide table { margin: 0; width: auto; min-width: min(100%, 28rem);
  border-collapse: separate; border-spacing: 0; }
caption { text-align: left; color: var(--soft); font-size: .92rem; padding-bottom: .35rem; }
td, th { vertical-align: top; white-space: nowrap; overflow-wrap: normal; padding: .3rem .42rem; font-size: .9rem; }
td:first-child, th:first-child { padding-left: 0; }
thead th { white-space: normal; font-weight: 600; border-bottom: 2px solid var(--line); vertical-align: bottom; }
tbody th { text-align: left; font-weight: 600; }
td small { color: var(--soft); display: block; font-size: .82rem; }
.loose td, .loose thead th { white-space: normal; text-align: left; }
.loose td { text-align: left; overflow-wrap: anywhere; min-width: 5.5rem; }
.loose td:last-child { min-width: 16rem; } .notes { margin: 0 0 1.4rem; padding-left: 1.2rem; font-size: .88rem; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer;
  text-align: inherit; }
th button::after { content: "\\a0↕"; font-size: .8em; opacity: .45; }
th[aria-sort=ascending] button::after { content: "\\a0↑"; opacity: 1; }
th[aria-sort=descending] button::after { content: "\\a0↓"; opacity: 1; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 23rem), 1fr)); gap: 1rem 2rem; }
figure { max-width: 30rem; margin: .6rem 0; break-inside: avoid; } figcaption { font-size: .92rem; }
.key { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; list-style: none; padding: 0; margin: .3rem 0;
  font-size: .9rem; }
.key svg { width: 34px; height: 16px; vertical-align: -3px; } svg text { font-size: 13px; }
svg .name { fill: var(--text); } svg .grid { stroke: var(--line); stroke-width: .7; }
svg .axis, svg .tick { stroke: var(--soft); } svg .floor { stroke: var(--soft); stroke-dasharray: 2 4; }
svg .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; } svg .bar { fill: none; stroke-width: 1.5; }
svg .mark:not(.open) { stroke: var(--paper); stroke-width: 1; }
svg .mark.open { fill: var(--paper) !important; stroke-width: 1.8; }
summary { cursor: pointer; padding: .25rem 0; } details.task { border-bottom: 1px solid var(--line); }
details.task > summary { color: var(--text); } .task summary b { font-weight: 600; }
.task summary span { color: var(--soft); font-size: .9rem; margin-left: .6rem; }
.pair { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(min(82vw, 20rem), 1fr); gap: 1rem;
  overflow-x: auto; padding: .3rem 0 1rem; }
article h4 { font-size: .92rem; margin: .2rem 0; }
article p { margin: .2rem 0 .5rem; font-size: .88rem; color: var(--soft); }
article ol { list-style: none; padding: 0; margin: 0; font-size: .88rem; }
article li { padding: .3rem .6rem; margin: .25rem 0; border-radius: 5px; background: var(--tint);
  white-space: pre-wrap; overflow-wrap: anywhere; }
article li b { font-weight: 600; color: var(--soft); } li.a { border-left: 3px solid var(--s0); }
li.c { border-left: 3px solid var(--s1); } li.t { border-left: 3px solid var(--s2); }
code, pre { font-size: .86rem; font-family: ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
pre { background: var(--tint); line-height: 1.5; max-height: 26rem; overflow: auto; }
.tools { display: flex; flex-wrap: wrap; gap: .5rem 1.2rem; margin: .8rem 0; align-items: center; }
.tools select { font: inherit; padding: .25rem; color: inherit; background: var(--tint);
  border: 1px solid var(--soft); border-radius: 4px; max-width: 100%; }
.good { color: var(--s2); } .bad { color: var(--bad); } .badges { white-space: nowrap; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem; color: var(--soft);
  font-size: .9rem; }
@media (max-width: 30rem) { h1 { font-size: 1.35rem; }
.answer { font-size: 1.06rem; padding-left: .7rem;
  }
.wide tbody th, .wide thead th:first-child { position: sticky; left: 0; background: var(--paper);
  max-width: 8.5rem; white-space: normal; overflow-wrap: break-word; min-width: 5rem; } }
@media print { :root { color-scheme: light; --paper: #fff; --text: #000; --soft: #444; --line: #bbb;
  --tint: #f4f4f4; } body { max-width: none; margin: 0; font-size: 10pt; }
  nav, .tools, .skip, details.task, figure details { display: none; } .wide { overflow: visible; } td, th {
  white-space: normal; font-size: 8.5pt; padding: .15rem .3rem; } h2, h3, caption { break-after: avoid; } tr {
  break-inside: avoid; } pre { max-height: none; white-space: pre-wrap; } .charts {
  grid-template-columns: 1fr 1fr; } td small { font-size: 7pt; white-space: nowrap; } th button::after {
  display: none; } details:not([open]) { display: none; } .notes, figcaption, .key { font-size: 8pt; } }
""" + "".join(
    f"svg .s{number} {{ stroke: var(--s{number}); }} svg .mark.s{number} {{ fill: var(--s{number}); }}\n"
    for number in range(KINDS)
)

SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table.sorted, .wide table")) {
  if (table.tBodies.length !== 1 || table.rows.length < 4) continue;
  [...table.tHead?.rows[0]?.cells ?? []].forEach((cell, column) => {
    if (!cell.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...cell.childNodes);
    cell.append(button);
    button.addEventListener("click", () => {
      const down = cell.getAttribute("aria-sort") === "ascending";
      const value = row => row.cells[column].textContent.replace(/[,\\u2212]/g, c => c === "," ? "" : "-");
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)], [n, m] = [parseFloat(x), parseFloat(y)];
        return isNaN(n) || isNaN(m) ? x.localeCompare(y) : n - m;
      });
      if (down) rows.reverse();
      table.tBodies[0].append(...rows);
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", down ? "descending" : "ascending");
    });
  });
}
for (const tools of document.querySelectorAll(".tools")) {
  const choices = [...tools.querySelectorAll("select")];
  const update = () => {
    const wanted = choices.map(choice => choice.value);
    for (const article of tools.parentElement.querySelectorAll("article"))
      article.hidden = !wanted.includes("") && !wanted.includes(article.dataset.of);
  };
  for (const choice of choices) choice.addEventListener("change", update);
  tools.hidden = false;
}
"""
