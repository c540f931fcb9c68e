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

// On a phone a table of few columns that does not fit becomes a card for each row, whose cells carry their headings.
function stack(box) {
  const table = box.querySelector("table"), heads = [...(table?.tHead?.rows ?? [])];
  const merged = table?.querySelector("[colspan]:not([colspan='1']), [rowspan]:not([rowspan='1'])");
  if (innerWidth > 600 || heads.length !== 1 || merged || heads[0].cells.length > 6 || table.matches(".upright, .stacked")) return;
  table.classList.add("stacked");
  table.setAttribute("role", "table"); // which it is no longer to a browser, once its rows are blocks
  for (const row of table.tBodies[0].rows) {
    row.setAttribute("role", "row");
    [...row.cells].forEach((cell, number) => {
      cell.setAttribute("role", cell.tagName === "TH" ? "rowheader" : "cell");
      const head = heads[0].cells[number]?.textContent.trim();
      if (head && number) cell.dataset.label = head; // the first cell is what the card is about
      const inner = document.createElement("span");
      inner.append(...cell.childNodes);
      cell.append(inner);
    });
  }
}

// A figure opens at full size: its letters are small on a phone. The drawing itself moves, because its parts have names.
function enlarging() {
  const made = (tag, attributes) => Object.assign(document.createElement(tag), attributes);
  const large = made("dialog", { className: "emolib-large", ariaLabel: "the figure, enlarged" });
  const close = made("button", { type: "button", className: "emolib-enlarge", textContent: "✕", ariaLabel: "Close", title: "Close" });
  const pane = made("div", { tabIndex: 0, role: "group", ariaLabel: "the figure, which scrolls" });
  large.append(close, pane);
  let back = () => {};
  close.addEventListener("click", () => large.close());
  large.addEventListener("click", (event) => event.target === large && large.close());
  large.addEventListener("close", () => back());
  for (const drawing of document.querySelectorAll("article .emolib-figure svg[role=img]")) {
    const words = "Enlarge this figure";
    const button = made("button", { type: "button", className: "emolib-enlarge", textContent: "⤢", ariaLabel: words, title: words });
    drawing.before(button);
    const open = () => {
      if (large.open) return;
      back = () => button.after(drawing);
      pane.replaceChildren(drawing);
      large.showModal();
      window.dispatchEvent(new Event("resize")); // to see whether it is wider than its box
    };
    button.addEventListener("click", open);
    drawing.addEventListener("click", open);
    if (!large.isConnected) document.body.append(large);
  }
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("article table").forEach(window.emolibSortable);
  // docutils calls the bibliography a list, but not its entries items of one.
  document.querySelectorAll(".citation-list[role=list]").forEach((list) => list.removeAttribute("role"));
  enlarging();
  const tables = ".text_html, article .pst-scrollable-table-container";
  const boxes = `article ${tables}, article .highlight pre, article .cell_output pre, article div.math, .emolib-large > div`;
  // A wide formula is set a little smaller before it has to scroll.
  const shrink = (box) => {
    const formula = box.querySelector("mjx-container[display]");
    if (!formula || formula.style.fontSize) return;
    // Its margins do not shrink with it, so once is not enough.
    for (let size = 1, tries = 0; tries < 4 && box.scrollWidth > box.clientWidth; tries += 1) {
      const own = formula.getBoundingClientRect().width;
      size *= (own - (box.scrollWidth - box.clientWidth) - 2) / own;
      formula.style.fontSize = `${Math.max(0.78, size)}em`;
    }
  };
  const ends = (box) => box.classList.toggle("emolib-end", box.scrollLeft + box.clientWidth >= box.scrollWidth - 2);
  const fit = (box) => {
    if (box.matches(tables) && box.scrollWidth > box.clientWidth + 1) stack(box);
    if (box.matches(".math") && box.scrollWidth > box.clientWidth + 1) shrink(box);
    const wide = box.scrollWidth > box.clientWidth + 1 && box.clientWidth > 0;
    box.classList.toggle("emolib-scrolls", wide);
    if (!wide) return;
    box.setAttribute("tabindex", "0");
    const first = box.querySelector("table:not(:has([rowspan]:not([rowspan='1']))) tbody tr > :first-child");
    box.classList.toggle("emolib-sticky", !!first && first.offsetWidth < 0.45 * box.clientWidth);
    ends(box);
    box.addEventListener("scroll", () => ends(box), { passive: true });
  };
  const look = () => document.querySelectorAll(boxes).forEach(fit);
  window.addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(look));
  window.addEventListener("resize", look);
  // What is folded has no width until it is opened.
  document.addEventListener("toggle", look, { capture: true });
});
