"use strict";

const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

// The value that a row is sorted by; null if its cell is empty.
function keyOf(row, column, isNumber) {
  const cell = row.cells[column];
  const text = cell.textContent.trim();
  if (text === "") return null;
  return isNumber ? Number(cell.dataset.key) : text;
}

function compare(a, b) {
  if (typeof a === "string") return words.compare(a, b);
  return a < b ? -1 : a > b ? 1 : 0;
}

// Sorting keeps the order of equal rows, and puts empty cells last in both directions.
function sort(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const head = heads[column];
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const isNumber = head.classList.contains("number");
  const keyed = [...table.tBodies[0].rows].map((row) => [keyOf(row, column, isNumber), row]);
  keyed.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
  table.tBodies[0].append(...keyed.map(([, row]) => row));
  heads.forEach((other) => other.setAttribute("aria-sort", "none"));
  head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
}

for (const table of document.querySelectorAll("main table")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(table, column));
  });
}

// A figure is downloaded from the image that is shown, so that the page holds it once.
for (const link of document.querySelectorAll("a[data-image]")) {
  link.href = document.getElementById(link.dataset.image).src;
  link.hidden = false;
}

if (window.matchMedia("(max-width: 60rem)").matches) {
  document.querySelector("nav details").open = false;
}
