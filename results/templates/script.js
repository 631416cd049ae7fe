"use strict";
document.documentElement.classList.add("js");
const $ = (id) => document.getElementById(id);
const read = (id) => ($(id) ? JSON.parse($(id).textContent) : null);
const element = (tag, text, attributes = {}) => {
  const found = document.createElement(tag);
  if (text !== null && text !== undefined) found.textContent = text;
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  return found;
};
const shown = (thousandths) => thousandths === null ? "undefined" : (thousandths / 1000).toFixed(3).replace("-", "−");

// Tables: a click on a head sorts, undefined numbers last whichever way.
function sortTable(table, index, direction) {
  const body = table.tBodies[0];
  const key = (row) => {
    const cell = row.cells[index];
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    return cell.tagName === "TH" || cell.classList.contains("text") ? cell.textContent.trim() : null;
  };
  const rows = [...body.rows].map((row) => [key(row), row]);
  const sign = direction === "ascending" ? 1 : -1;
  rows.sort(([a], [b]) => (a === null) - (b === null)
    || (typeof a === "string" || typeof b === "string"
      ? sign * String(a).localeCompare(String(b), "en", { numeric: true }) : sign * (a - b)));
  body.append(...rows.map(([, row]) => row));
  for (const [place, head] of [...table.tHead.rows[table.tHead.rows.length - 1].cells].entries())
    if (place === index) head.setAttribute("aria-sort", direction); else head.removeAttribute("aria-sort");
}
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  for (const [index, head] of heads.entries()) {
    const button = element("button", head.textContent, { type: "button" });
    button.addEventListener("click", () => {
      const first = head.classList.contains("text") ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      sortTable(table, index, head.getAttribute("aria-sort") === first ? other : first);
    });
    head.replaceChildren(button);
  }
}

// Scores: the same table for another metric or perturbation.
for (const board of document.querySelectorAll("[data-scores]")) {
  const data = JSON.parse(board.querySelector("script").textContent), table = board.querySelector("table");
  const [metric, perturbation] = ["metric", "perturbation"].map((name) => board.querySelector(`select.${name}`));
  const names = new Map(data.detectors.map((name, index) => [name, index]));
  const draw = () => {
    const values = data.values[perturbation.value][metric.value], lower = data.lower.includes(metric.value);
    const failed = data.failed[perturbation.value];
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells].slice(1);
    const best = heads.map((_, column) => {
      const found = values.map((row) => row[column]).filter((cell, row) => cell && data.ranked[column] && !failed[row][column])
        .map((cell) => cell[0]);
      const value = lower ? Math.min(...found) : Math.max(...found);
      return found.some((other) => other !== value) ? value : null;
    });
    for (const row of table.tBodies[0].rows) {
      const detector = names.get(row.cells[0].textContent), cells = values[detector];
      cells.forEach((value, column) => {
        const cell = row.cells[column + 1], missing = failed[detector][column];
        const marks = (cell.classList.contains("seen") ? "†" : "") + (missing ? "‡" : ""), mark = marks ? [element("sup", marks)] : [];
        if (!value) { cell.replaceChildren(value === null ? "–" : "undefined", ...mark); delete cell.dataset.v; return; }
        cell.dataset.v = value[0] / 1000;
        cell.replaceChildren(value[0] === best[column] && !missing ? element("b", shown(value[0])) : shown(value[0]), ...mark);
        if (value.length > 1)
          cell.append(element("small", value.slice(1).map((end) => (end / 1000).toFixed(2)).join("–").replace(/-/g, "−")));
      });
    }
    table.caption.firstElementChild.textContent = `${metric.selectedOptions[0].textContent}${perturbation.value === "none" ? ""
      : ` after ${perturbation.value}`}: mean over pictures, 95 % interval`;
    const sorted = heads.findIndex((head) => head.hasAttribute("aria-sort"));
    if (sorted >= 0) sortTable(table, sorted + 1, lower ? "ascending" : "descending");
  };
  metric.addEventListener("change", draw);
  perturbation.addEventListener("change", draw);
}

// Gallery: by method and rank.
const cases = [...document.querySelectorAll(".case")];
function filterCases() {
  for (const found of cases)
    found.hidden = ["method", "rank"].some((name) => $(`case-${name}`).value && $(`case-${name}`).value !== found.dataset[name]);
}
for (const name of ["method", "rank"]) $(`case-${name}`)?.addEventListener("change", filterCases);

// Pictures: search and sort the list, open one.
const listing = read("listing-data"), SHOWN = 200;
if (listing) {
  const body = $("listing").tBodies[0];
  let chosen = null;
  const open = (row, line) => {
    const [name, method, mean, aucs, f1s] = row;
    chosen?.setAttribute("aria-selected", "false");
    (chosen = line).setAttribute("aria-selected", "true");
    const order = listing.detectors.map((_, index) => index).sort((a, b) => (aucs[b] ?? -1) - (aucs[a] ?? -1));
    const table = element("table"), head = table.createTHead().insertRow(), rows = table.createTBody();
    for (const title of ["detector", "AUC", "", "F1"]) head.append(element("th", title, { scope: "col" }));
    for (const index of order) {
      const line = rows.insertRow();
      const bar = element("span", "", { class: "bar" });
      bar.style.width = `${(aucs[index] ?? 0) * 0.06}px`;
      const place = element("td");
      place.append(bar);
      line.append(element("th", listing.detectors[index], { scope: "row" }), element("td", shown(aucs[index])), place,
        element("td", shown(f1s[index])));
    }
    const found = cases.find((other) => other.dataset.name === name && other.dataset.method === method);
    const parts = [element("h3", `${method}: ${name}`), element("p", `Mean AUC ${shown(mean)}`, { class: "soft" }), table];
    if (found) {
      const link = element("a", "Its maps are in the gallery", { href: `#${found.id}` });
      link.addEventListener("click", () => { found.hidden = false; });
      parts.splice(2, 0, link);
    }
    $("detail").replaceChildren(...parts);
  };
  const draw = () => {
    const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const by = { worst: (a, b) => a[2] - b[2], best: (a, b) => b[2] - a[2], name: (a, b) => a[0] < b[0] ? -1 : 1,
      spread: (a, b) => spread(b) - spread(a) }[$("order").value];
    const found = listing.rows.filter(([name, method]) => words.every((word) => `${name} ${method}`.toLowerCase().includes(word)));
    found.sort(by);
    body.replaceChildren(...found.slice(0, SHOWN).map((row) => {
      const line = element("tr", null, { "aria-selected": "false" }), head = element("td", null, { class: "text" });
      const button = element("button", row[0], { type: "button" });
      head.append(button);
      line.append(head, element("td", row[1], { class: "text" }), element("td", shown(row[2])), element("td", shown(spread(row))));
      line.addEventListener("click", () => open(row, line));
      return line;
    }));
    $("found").textContent = `${found.length} found${found.length > SHOWN ? `, the first ${SHOWN} shown` : ""}`;
  };
  const spread = (row) => {
    const values = row[3].filter((value) => value !== null);
    return Math.max(...values) - Math.min(...values);
  };
  $("find").addEventListener("input", draw);
  $("order").addEventListener("change", draw);
  draw();
}

// Copying without the clipboard's permission, which pages opened from a file may lack, selects the text.
for (const button of document.querySelectorAll("button.copy"))
  button.addEventListener("click", async () => {
    const place = $(button.dataset.of);
    getSelection().selectAllChildren(place);
    try { await navigator.clipboard.writeText(place.textContent); button.textContent = "Copied"; }
    catch { button.textContent = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C"; }
  });

// What is folded is printed too.
addEventListener("beforeprint", () => document.querySelectorAll("details:not(.long)").forEach((each) => { each.open = true; }));
