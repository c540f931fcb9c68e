// The explorer: choices narrow the rows of window.emolibExplorer (written by emolib.book.explorer), Vega-Lite draws them.
document.addEventListener("DOMContentLoaded", () => {
  const { spec, choices, sources, names, texts, series, numbers } = window.emolibExplorer;
  const root = document.getElementById("emolib-explorer");
  const count = numbers.value.length;
  const text = (name, row) => texts[name].values[texts[name].codes[series[row]]];
  const titles = { metric: "measure", span: "layers edited at once" };
  const readable = (name, value) =>
    value === "" ? "none" : names[name]?.[value] ?? value.replaceAll("_", " ").replaceAll(";", ", ").replaceAll(":", " ");
  const chosen = {};
  const shown = new Set();
  const element = (tag, attributes = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), attributes);
    made.append(...children);
    return made;
  };

  const controls = element("div", { className: "emolib-controls" });
  const models = element("fieldset", { className: "emolib-models" }, element("legend", { textContent: "models" }));
  const figure = element("div", { className: "emolib-chart" });
  const status = element("p", { className: "emolib-status" });
  status.setAttribute("role", "status");
  const table = element("div", { className: "emolib-rows", tabIndex: 0 });
  table.setAttribute("role", "region");
  table.setAttribute("aria-label", "the numbers of this figure");
  const save = element("a", { textContent: "Save as CSV", download: "emolib-explorer.csv", href: "#" });
  const details = element("details", {}, element("summary", { textContent: "The numbers of this figure" }), save, table);
  // Vega measures its place when the window changes; the page may still be laying itself out.
  new ResizeObserver(() => window.dispatchEvent(new Event("resize"))).observe(figure);
  details.addEventListener("toggle", () => details.open && fillTable());
  root.append(controls, models, status, figure, details);

  // Rows that agree with the first `depth` choices, taken in their order.
  function narrowed(depth) {
    const codes = choices.slice(0, depth).map((name) => [texts[name].codes, texts[name].values.indexOf(chosen[name])]);
    const fits = texts.source.codes.map((_, one) => codes.every(([column, code]) => column[one] === code));
    const rows = [];
    for (let row = 0; row < count; row++) if (fits[series[row]]) rows.push(row);
    return rows;
  }

  // The value that most models have comes first, so that there is something to compare.
  function ranked(name, rows) {
    const have = new Map();
    for (const row of rows) {
      const value = text(name, row);
      if (!have.has(value)) have.set(value, new Set());
      have.get(value).add(texts.source.codes[series[row]]);
    }
    const best = [...have].reduce((a, b) => (b[1].size > a[1].size ? b : a), ["", new Set()])[0];
    const order = new Intl.Collator("en", { numeric: true });
    return { best, values: [...have.keys()].sort(order.compare) };
  }

  function select(name, values) {
    const options = values.map((value) => element("option", { value, textContent: readable(name, value) }));
    const box = element("select", { name }, ...options);
    box.value = chosen[name];
    box.addEventListener("change", () => {
      // Another experiment has other conditions: start where most models can be compared.
      if (name === "experiment") choices.forEach((other) => delete chosen[other]);
      chosen[name] = box.value;
      refresh();
      controls.querySelector(`[name="${name}"]`).focus();
    });
    return element("label", {}, element("span", { textContent: titles[name] ?? name }), box);
  }

  function refresh() {
    controls.replaceChildren();
    choices.forEach((name, depth) => {
      const { best, values } = ranked(name, narrowed(depth));
      if (!values.includes(chosen[name])) chosen[name] = best;
      if (values.length > 1) controls.append(select(name, values));
    });
    const rows = narrowed(choices.length);
    const present = new Set(rows.map((row) => text("source", row)));
    if (![...present].some((name) => shown.has(name))) initial(present).forEach((name) => shown.add(name));
    models.replaceChildren(models.firstChild, ...sources.filter(({ source }) => present.has(source)).map(toggle));
    draw(rows.filter((row) => shown.has(text("source", row))));
  }

  function initial(present) {
    const ours = sources.filter(({ source, kind }) => present.has(source) && kind === "run");
    const theirs = sources.filter(({ source, kind }) => present.has(source) && kind === "paper");
    return [...ours, ...theirs.filter(({ source }) => source.startsWith("Llama 3.2")), ...theirs].slice(0, ours.length + 1)
      .map(({ source }) => source);
  }

  function toggle({ source, kind, colour }) {
    const box = element("input", { type: "checkbox", checked: shown.has(source), value: source });
    box.addEventListener("change", () => {
      shown[box.checked ? "add" : "delete"](source);
      draw(narrowed(choices.length).filter((row) => shown.has(text("source", row))));
    });
    const swatch = element("span", { className: `emolib-swatch emolib-${kind}` });
    swatch.style.borderColor = colour;
    return element("label", {}, box, swatch, source);
  }

  const short = (value) => (value === null ? "" : Number(value.toPrecision(4)).toString());
  let rows = [];
  let drawn = Promise.resolve();
  function draw(indices) {
    rows = indices.map((row) => {
      const one = Object.fromEntries(Object.keys(numbers).map((name) => [name, numbers[name][row]]));
      const interval = one.ci_low === null ? "none" : `${short(one.ci_low)} to ${short(one.ci_high)}`;
      return {
        ...one, interval, source: text("source", row), where: text("where", row), shown: short(one.value),
        n: one.n ?? "not stated", depth: (one.layer + 1) / one.layers, place: `${one.layer + 1} of ${one.layers}`,
        kind: sources.find(({ source }) => source === text("source", row)).kind,
      };
    });
    status.textContent = rows.length ? "" : "No model is chosen: tick one above.";
    const titled = structuredClone(spec);
    titled.layer[0].encoding.y.title = readable("metric", chosen.metric);
    titled.layer.slice(1).forEach((layer) => { layer.encoding.y.title = readable("metric", chosen.metric); });
    titled.datasets = { rows };
    titled.description = `${readable("metric", chosen.metric)} over depth, ${rows.length} values; listed in the table below`;
    const options = { renderer: "svg", actions: false, tooltip: { theme: "custom" } };
    // One after the other: quick choices would otherwise draw into each other.
    root.removeAttribute("data-rows");
    drawn = drawn.then(async (last) => {
      last?.finalize();
      const result = await window.vegaEmbed(figure, titled, options);
      root.dataset.rows = titled.datasets.rows.length;
      return result;
    });
    const quoted = (value) => `"${String(value ?? "").replaceAll('"', '""')}"`;
    const lines = [[...choices, ...columns.map(([, title]) => title)], ...rows.map((row) =>
      [...choices.map((name) => chosen[name]), ...columns.map(([name]) => row[name])])];
    save.href = `data:text/csv;charset=utf-8,${encodeURIComponent(lines.map((line) => line.map(quoted).join(",")).join("\n"))}`;
    if (details.open) fillTable();
  }

  const columns = [["source", "model"], ["place", "layer"], ["shown", "value"], ["interval", "95 % interval"], ["n", "n"],
    ["where", "source"]];
  function fillTable() {
    const head = element("tr", {}, ...columns.map(([, title]) => element("th", { textContent: title, scope: "col" })));
    const body = rows.map((row) =>
      element("tr", {}, ...columns.map(([name]) => element("td", { textContent: row[name] ?? "" }))));
    const made = element("table", { className: "table" }, element("thead", {}, head), element("tbody", {}, ...body));
    table.replaceChildren(made);
    window.emolibSortable(made);
  }

  refresh();
});
