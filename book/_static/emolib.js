// An element with these attributes around its children: what the pages that draw for themselves are made of.
window.emolibElement = (tag, attributes = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
};

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
  const rows = [...table.tBodies[0].rows], said = (cell) => cell.textContent.trim();
  if (rows.every((row) => [...row.cells].slice(1).every((cell) => said(cell).length < 6))) return; // counts: rows are compared
  table.classList.add("stacked");
  table.setAttribute("role", "table"); // which it is no longer to a browser, once its rows are blocks
  for (const row of rows) {
    row.setAttribute("role", "row");
    [...row.cells].forEach((cell, number) => {
      cell.setAttribute("role", cell.tagName === "TH" ? "rowheader" : "cell");
      const head = heads[0].cells[number]?.textContent.trim();
      if (head && (number || /^[-−+]?\d/.test(said(cell)))) cell.dataset.label = head; // the first is what the card is about
      cell.classList.toggle("emolib-empty", !said(cell) && !cell.querySelector("img, svg, input"));
      const inner = document.createElement("span");
      inner.append(...cell.childNodes);
      cell.append(inner);
    });
  }
}

// A word of the glossary says what it means: under the mouse, with the keyboard's focus, at the first tap.
function explaining() {
  if (!HTMLElement.prototype.showPopover) return; // then the browser shows the title by itself
  const tip = Object.assign(document.createElement("div"), { className: "emolib-tip", popover: "manual" });
  document.body.append(tip);
  let shown = null, leaving = 0;
  const hide = () => { tip.hidePopover(); shown = null; };
  const later = () => { leaving = setTimeout(hide, 250); };
  const stay = () => clearTimeout(leaving);
  const show = (link, more = "") => {
    stay();
    shown = link;
    tip.textContent = link.getAttribute("aria-description") + more;
    tip.showPopover();
    const word = [...link.getClientRects()].at(-1), own = tip.getBoundingClientRect(), room = document.documentElement;
    const below = word.bottom + own.height + 6 < room.clientHeight;
    tip.style.left = `${Math.max(8, Math.min(word.left, room.clientWidth - own.width - 8))}px`;
    tip.style.top = `${below ? word.bottom + 4 : word.top - own.height - 4}px`;
  };
  for (const link of document.querySelectorAll("a.emolib-term")) {
    link.setAttribute("aria-description", link.title);
    link.removeAttribute("title");
    let touched = false, known = false;
    link.addEventListener("pointerdown", (event) => { touched = event.pointerType !== "mouse"; known = shown === link; });
    link.addEventListener("click", (event) => {
      if (!touched || known) return;
      event.preventDefault();
      show(link, " Tap again for the glossary.");
    });
    link.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && show(link));
    link.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && later());
    link.addEventListener("focus", () => link.matches(":focus-visible") && show(link));
    link.addEventListener("blur", hide);
  }
  tip.addEventListener("pointerenter", stay);
  tip.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && later());
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  document.addEventListener("pointerdown", (event) => shown && !event.target.closest(".emolib-tip, .emolib-term") && hide());
  document.addEventListener("scroll", hide, { passive: true });
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

// A folded figure opens when it is linked to, below the sentence that it is folded under, and to be printed.
function unfold() {
  const place = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const fold = place && place.closest("details.emolib-more");
  if (fold) { fold.open = true; fold.scrollIntoView(); }
}
window.addEventListener("hashchange", unfold);
window.addEventListener("load", unfold);
window.addEventListener("beforeprint", () => document.querySelectorAll("details.emolib-more").forEach((fold) => { fold.open = true; }));

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("article table").forEach(window.emolibSortable);
  // docutils calls the bibliography a list, but not its entries items of one.
  document.querySelectorAll(".citation-list[role=list]").forEach((list) => list.removeAttribute("role"));
  // An option is one word: a browser would break it behind its dashes.
  for (const word of document.querySelectorAll("article code .pre")) {
    if (/^--?\w/.test(word.textContent) && word.textContent.length < 24) word.style.whiteSpace = "nowrap";
  }
  enlarging();
  explaining();
  const tables = ".text_html, article .pst-scrollable-table-container";
  const boxes = `article ${tables}, article .highlight pre, article .cell_output pre, article div.math, .emolib-large > div`;
  const ends = (box) => box.classList.toggle("emolib-end", box.scrollLeft + box.clientWidth >= box.scrollWidth - 2);
  const fit = (box) => {
    if (box.matches(tables) && box.scrollWidth > box.clientWidth + 1) stack(box);
    const cards = innerWidth <= 600 && box.querySelector("table.stacked");
    const wide = !cards && box.scrollWidth > box.clientWidth + 1 && box.clientWidth > 0;
    box.classList.toggle("emolib-scrolls", wide);
    if (!wide) return;
    box.setAttribute("tabindex", "0");
    const first = box.querySelector("table:not(:has([rowspan]:not([rowspan='1']))) tbody tr > :first-child");
    box.classList.toggle("emolib-sticky", !!first && first.offsetWidth < 0.45 * box.clientWidth);
    ends(box);
    box.addEventListener("scroll", () => ends(box), { passive: true });
  };
  const look = () => document.querySelectorAll(boxes).forEach(fit);
  window.addEventListener("load", () => document.fonts.ready.then(look));
  window.addEventListener("resize", look);
  // What is folded has no width until it is opened.
  document.addEventListener("toggle", look, { capture: true });
});
