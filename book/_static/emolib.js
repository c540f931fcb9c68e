// Long tables sort by a click on a heading, or Enter on it: marks them for vendor/sortable.min.js.
// Wide tables, formulas and listings scroll in their own box, so the box takes the keyboard's focus.
window.emolibSortable = (table) => {
  const merged = table.querySelector("thead [colspan]:not([colspan='1']), tbody [rowspan]:not([rowspan='1'])");
  if (!table.tHead || table.tHead.rows.length !== 1 || merged || table.matches(".upright") || table.tBodies[0].rows.length < 8) return;
  table.classList.add("sortable");
  for (const heading of table.tHead.rows[0].cells) {
    if (!heading.textContent.trim()) { heading.classList.add("no-sort"); continue; }
    heading.tabIndex = 0;
    heading.title = "Sort by this column";
    heading.addEventListener("keydown", (event) => event.key === "Enter" && heading.click());
  }
  // "0.31 (0.28 to 0.35)", "1,790" and "−0.2" sort as the number they begin with.
  for (const cell of table.tBodies[0].querySelectorAll("td, th")) {
    const found = cell.textContent.trim().replaceAll(",", "").replace("−", "-").match(/^[-+]?\d*\.?\d+/);
    if (found) cell.dataset.sort = found[0];
  }
};

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("article table").forEach(window.emolibSortable);
  // docutils calls the bibliography a list, but not its entries items of one.
  document.querySelectorAll(".citation-list[role=list]").forEach((list) => list.removeAttribute("role"));
  const boxes = "article .text_html, article .pst-scrollable-table-container, article .highlight pre, article div.math";
  const focusable = (box) => box.scrollWidth > box.clientWidth && box.setAttribute("tabindex", "0");
  const look = () => document.querySelectorAll(boxes).forEach(focusable);
  window.addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(look));
  window.addEventListener("resize", look);
});
