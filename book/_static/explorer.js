// The explorer: choices narrow the rows of window.emolibExplorer (written by emolib.book.explorer), Vega-Lite draws them.
document.addEventListener("DOMContentLoaded", () => {
  const { models, names, tables } = window.emolibExplorer;
  const root = document.getElementById("emolib-explorer");
  const titles = { metric: "measure", span: "layers edited at once", setting: "pushed" };
  const readable = (value) => (value === "" ? "none" : names[value] ?? value.replaceAll("_", " "));
  const chosen = { experiment: Object.keys(tables)[0] };
  const shown = new Set();
  const table = () => tables[chosen.experiment];
  const text = (name, row) => { const { values, codes } = table().texts[name]; return values[codes[table().series[row]]]; };
  const element = (tag, attributes = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), attributes);
    made.append(...children);
    return made;
  };

  const controls = element("div", { className: "emolib-controls" });
  const boxes = element("fieldset", { className: "emolib-models" }, element("legend", { textContent: "models" }));
  const figure = element("div", { className: "emolib-chart" });
  const status = element("p", { className: "emolib-status", role: "status" });
  const list = element("div", { className: "emolib-rows", tabIndex: 0, role: "region", ariaLabel: "the numbers of this figure" });
  const save = element("a", { textContent: "Save as CSV", download: "emolib-explorer.csv", href: "#" });
  const details = element("details", {}, element("summary", { textContent: "The numbers of this figure" }), save, list);
  // Vega measures its place when the window changes; the page may still be laying itself out.
  new ResizeObserver(() => window.dispatchEvent(new Event("resize"))).observe(figure);
  details.addEventListener("toggle", () => details.open && fillList());
  root.append(controls, boxes, status, figure, details);

  // Rows that agree with the first `depth` choices, taken in their order.
  function narrowed(depth) {
    const { choices, texts, series } = table();
    const codes = choices.slice(0, depth).map((name) => [texts[name].codes, texts[name].values.indexOf(chosen[name])]);
    const fits = texts.who.codes.map((_, one) => codes.every(([column, code]) => column[one] === code));
    return [...series.keys()].filter((row) => fits[series[row]]);
  }

  // The value that most models have comes first, so that there is something to compare.
  function ranked(name, rows) {
    const have = {};
    for (const row of rows) (have[text(name, row)] ??= new Set()).add(text("who", row));
    const values = Object.keys(have).sort(new Intl.Collator("en", { numeric: true }).compare);
    const first = [...new Set(rows.map((row) => text(name, row)))];
    return { values, best: first.reduce((a, b) => (have[b].size > have[a].size ? b : a)) };
  }

  function select(name, values) {
    const options = values.map((value) => element("option", { value, textContent: readable(value) }));
    const box = element("select", { name }, ...options);
    box.value = chosen[name];
    box.addEventListener("change", () => {
      // Another experiment has other choices: start where most models can be compared.
      if (name === "experiment") for (const other in chosen) delete chosen[other];
      chosen[name] = box.value;
      refresh();
      controls.querySelector(`[name="${name}"]`).focus();
    });
    return element("label", {}, element("span", { textContent: titles[name] ?? name.replaceAll("_", " ") }), box);
  }

  function refresh() {
    controls.replaceChildren(select("experiment", Object.keys(tables)));
    const { choices } = table();
    choices.forEach((name, depth) => {
      const { best, values } = ranked(name, narrowed(depth));
      if (!values.includes(chosen[name])) chosen[name] = best;
      if (values.length > 1) controls.append(select(name, values));
    });
    const present = new Set(narrowed(choices.length).map((row) => text("who", row)));
    const here = models.filter(({ who }) => present.has(who));
    if (!here.some(({ who }) => shown.has(who))) {
      // at first the runs and one model of the paper, the one studied in detail if it is there
      const theirs = here.filter(({ kind }) => kind === "paper");
      const one = theirs.find(({ who }) => who.startsWith("Llama 3.2")) ?? theirs[0];
      here.filter((model) => model.kind === "run" || model === one).forEach(({ who }) => shown.add(who));
    }
    boxes.replaceChildren(boxes.firstChild, ...here.map(toggle));
    draw();
  }

  function toggle({ who, kind, colour }) {
    const box = element("input", { type: "checkbox", checked: shown.has(who), value: who });
    box.addEventListener("change", () => { shown[box.checked ? "add" : "delete"](who); draw(); });
    const swatch = element("span", { className: `emolib-swatch emolib-${kind}` });
    swatch.style.borderColor = colour;
    return element("label", {}, box, swatch, who);
  }

  const columns = [["who", "model"], ["place", "layer"], ["shown", "value"], ["interval", "95 % interval"], ["n", "n"],
    ["where", "source"]];
  const short = (value) => (value === null ? "" : Number(value.toPrecision(4)).toString());
  let rows = [];
  let drawn = Promise.resolve();

  // The rows as lines over depth with their intervals, the paper's dashed, in Vega-Lite.
  function chart(title) {
    const colours = { domain: models.map(({ who }) => who), range: models.map(({ colour }) => colour) };
    const axis = { title: "depth: layer / number of layers", tickCount: 5 };
    const y = { field: "value", type: "quantitative", title, scale: { zero: false, nice: true } };
    const tooltip = columns.map(([field, head]) => ({ field, type: "nominal", title: head }));
    const dashes = { condition: { test: "datum.kind === 'paper'", value: [5, 3] }, value: [1, 0] };
    const inks = ["label", "title", "domain", "tick", "grid"].map((part) => [`${part}Color`, "currentColor"]);
    return {
      description: `${title} over depth, ${rows.length} values; listed in the table below`,
      width: "container", height: 360, background: "transparent", data: { values: rows },
      encoding: {
        x: { field: "depth", type: "quantitative", axis, scale: { domain: [0, 1] } },
        color: { field: "who", type: "nominal", scale: colours, legend: null },
      },
      layer: [
        {
          transform: [{ filter: "isValid(datum.ci_low)" }], mark: { type: "area", opacity: 0.18, aria: false },
          encoding: { y: { field: "ci_low", type: "quantitative", title }, y2: { field: "ci_high" } },
        },
        { mark: { type: "line", strokeWidth: 2, aria: false }, encoding: { y, strokeDash: dashes } },
        { mark: { type: "point", filled: true, size: 40, opacity: 1 }, encoding: { y, tooltip } },
      ],
      config: {
        font: "system-ui, sans-serif", view: { stroke: null },
        axis: { ...Object.fromEntries(inks), gridOpacity: 0.15, labelFontSize: 13, titleFontSize: 13, titleFontWeight: "normal" },
      },
    };
  }

  function draw() {
    const { choices, numbers } = table();
    rows = narrowed(choices.length).filter((row) => shown.has(text("who", row))).map((row) => {
      const one = Object.fromEntries(Object.keys(numbers).map((name) => [name, numbers[name][row]]));
      const who = text("who", row);
      return {
        ...one, who, where: text("where", row), kind: models.find((model) => model.who === who).kind, shown: short(one.value),
        interval: one.ci_low === null ? "none" : `${short(one.ci_low)} to ${short(one.ci_high)}`, n: one.n ?? "not stated",
        depth: (one.layer + 1) / one.n_layers, place: `${one.layer + 1} of ${one.n_layers}`,
      };
    });
    status.textContent = rows.length ? "" : "No model is chosen: tick one above.";
    const drawing = chart(readable(chosen.metric));
    const options = { mode: "vega-lite", renderer: "svg", actions: false, tooltip: { theme: "custom" } };
    // One after the other: quick choices would otherwise draw into each other.
    root.removeAttribute("data-rows");
    drawn = drawn.then(async (last) => {
      last?.finalize();
      const result = await window.vegaEmbed(figure, drawing, options);
      root.dataset.rows = drawing.data.values.length;
      return result;
    });
    const quoted = (value) => `"${String(value ?? "").replaceAll('"', '""')}"`;
    const heads = ["experiment", ...choices];
    const lines = [[...heads, ...columns.map(([, head]) => head)],
      ...rows.map((row) => [...heads.map((name) => chosen[name]), ...columns.map(([name]) => row[name])])];
    save.href = `data:text/csv;charset=utf-8,${encodeURIComponent(lines.map((line) => line.map(quoted).join(",")).join("\n"))}`;
    if (details.open) fillList();
  }

  function fillList() {
    const head = element("tr", {}, ...columns.map(([, textContent]) => element("th", { textContent, scope: "col" })));
    const body = rows.map((row) =>
      element("tr", {}, ...columns.map(([name]) => element("td", { textContent: row[name] ?? "" }))));
    const made = element("table", { className: "table" }, element("thead", {}, head), element("tbody", {}, ...body));
    list.replaceChildren(made);
    window.emolibSortable(made);
  }

  refresh();
});
