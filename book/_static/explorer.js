// The explorer: a question, or choices of one's own, narrow the rows of one measure; Vega-Lite draws them. The index is
// window.emolibExplorer, each measure a script of its own that is loaded when asked for (both by emolib.book.explorer).
// What is shown is in the address: #read is a question, #experiment=probing&metric=accuracy&... are choices.
const emolibPlace = document.currentScript.src.replace(/[^/]*$/, "");
document.addEventListener("DOMContentLoaded", () => {
  const { models, parts, menus, words, pages, names, colours, cycle, levels, tables: index } = window.emolibExplorer;
  const root = document.getElementById("emolib-explorer");
  const tables = {};
  const questions = Object.assign({}, ...Object.values(parts));
  const titles = Object.assign({}, ...Object.values(menus));
  const chosen = { by: "who", over: "layer" };
  let shown = new Set();
  let question = null;
  const table = () => tables[`${chosen.experiment}-${chosen.metric}`];
  const readable = (value, column) =>
    words[column]?.[value] ?? (value === "" ? "none" : names[value] ?? String(value).replaceAll("_", " "));
  const title = (name) => ({ who: "model", layer: "layer" })[name] ?? titles[name] ?? name.replaceAll("_", " ");
  const text = (name, row) => { const { values, codes } = table().texts[name]; return values[codes[table().series[row]]]; };
  const value = (name, row) => (name === "layer" ? table().numbers.layer[row] : text(name, row));
  const element = window.emolibElement;

  const asked = element("div", { className: "emolib-question" });
  const controls = element("div", { className: "emolib-controls" });
  const own = element("details", { className: "emolib-own" }, element("summary", { textContent: "Choose yourself" }), controls);
  const boxes = element("fieldset", { className: "emolib-models" }, element("legend", { textContent: "models" }));
  const figure = element("div", { className: "emolib-chart" });
  const status = element("p", { className: "emolib-status", role: "status" });
  const list = element("div", { className: "emolib-rows", tabIndex: 0, role: "region", ariaLabel: "the numbers of this figure" });
  const save = element("a", { textContent: "Save as CSV", download: "emolib-explorer.csv", href: "#" });
  const details = element("details", {}, element("summary", { textContent: "The numbers of this figure" }), save, list);
  // Vega measures its place when the window changes; the page may still be laying itself out.
  new ResizeObserver(() => window.dispatchEvent(new Event("resize"))).observe(figure);
  details.addEventListener("toggle", () => details.open && fillList());
  root.append(asked, status, figure, boxes, own, details);

  // A measure's script calls this; the page waits for it.
  window.emolibExplorer.add = (experiment, metric, data) => { tables[`${experiment}-${metric}`] = data; };
  const load = (name) => tables[name] ? Promise.resolve() : new Promise((done, failed) => {
    const script = element("script", { src: `${emolibPlace}explorer/${name}.js`, onload: done, onerror: failed });
    document.head.append(script);
  });

  // Columns that the figure spreads out; the others are chosen.
  const spread = () => [chosen.by, chosen.over];
  const layered = () => table().numbers.layer.some((layer) => layer !== null);
  const choices = () => [...table().choices, ...(chosen.over !== "layer" && layered() ? ["layer"] : [])]
    .filter((name) => !spread().includes(name));

  // Rows that agree with the first `depth` choices, taken in their order.
  function narrowed(depth) {
    const { texts, series, numbers } = table();
    const picked = choices().slice(0, depth);
    const codes = picked.filter((name) => name !== "layer").map((name) => [texts[name].codes, texts[name].values.indexOf(chosen[name])]);
    const fits = texts.who.codes.map((_, one) => codes.every(([column, code]) => column[one] === code));
    const layer = picked.includes("layer") ? Number(chosen.layer) : null;
    return [...series.keys()].filter((row) => fits[series[row]] && (layer === null || numbers.layer[row] === layer));
  }

  // The value that most models have comes first, so that there is something to compare; of as many, the one that has
  // most of what is spread out.
  function ranked(name, rows) {
    const have = {};
    for (const row of rows) {
      const found = (have[value(name, row)] ??= { who: new Set(), spread: new Set() });
      found.who.add(text("who", row));
      found.spread.add(chosen.by === "who" ? "" : text(chosen.by, row));
    }
    const known = Object.keys(words[name] ?? {});
    const place = (one) => (known.indexOf(one) + 1 || known.length + 1);
    const { compare } = new Intl.Collator("en", { numeric: true });
    const values = Object.keys(have).sort((a, b) => place(a) - place(b) || compare(a, b));
    const better = (a, b) => have[b].who.size - have[a].who.size || have[b].spread.size - have[a].spread.size;
    const best = [...new Set(rows.map((row) => String(value(name, row))))].reduce((a, b) => (better(a, b) > 0 ? b : a));
    return { values, best };
  }

  function option(value, column) {
    const words = column === "layer" ? String(Number(value) + 1) : readable(value, column);
    return element("option", { value, textContent: words });
  }

  function select(name, options, value = chosen[name]) {
    const box = element("select", { name }, ...options);
    box.value = value;
    box.addEventListener("change", () => {
      if (name === "question") ask(box.value);
      else {
        // Another experiment has other choices: start where most models can be compared.
        if (name === "experiment") restart({ experiment: box.value });
        chosen[name] = box.value;
        question = null;
      }
      refresh().then(() => root.querySelector(`[name="${name}"]`)?.focus());
    });
    return element("label", {}, element("span", { textContent: name === "question" ? "question" : title(name) }), box);
  }

  function restart(view) {
    for (const other in chosen) delete chosen[other];
    Object.assign(chosen, { by: "who", over: "layer" }, view);
    chosen.metric ??= index[chosen.experiment][0];
  }

  function ask(name) {
    question = name;
    shown = new Set();
    restart({ experiment: questions[name].experiment, ...questions[name].view });
  }

  // What the address says, or what most models have an answer to.
  function restore() {
    const said = decodeURIComponent(location.hash.slice(1));
    const view = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    if (index[view.experiment] && (!view.metric || index[view.experiment].includes(view.metric))) {
      question = null;
      const { models: drawn, ...rest } = view;
      shown = new Set(drawn ? drawn.split("|") : []);
      own.open = true;
      restart(rest);
    } else ask(index[questions[said]?.experiment] ? said : ["read", ...Object.keys(questions)].find((name) => index[questions[name]?.experiment]));
  }

  function address() {
    const view = new URLSearchParams({ experiment: chosen.experiment, metric: chosen.metric });
    for (const name of [...choices(), "by", "over"]) view.set(name, chosen[name]);
    view.set("models", [...shown].join("|"));
    history.replaceState(null, "", `#${question ?? view}`);
  }

  const grouped = (groups) => groups.filter(([, options]) => options.length)
    .map(([label, options]) => element("optgroup", { label }, ...options));

  async function refresh() {
    root.removeAttribute("data-rows");
    const name = `${chosen.experiment}-${chosen.metric}`;
    try { await load(name); } catch {
      status.textContent = `${name}.js could not be read: render the book again.`;
      return;
    }
    if (name !== `${chosen.experiment}-${chosen.metric}`) return; // chosen anew meanwhile
    const { texts } = table();
    const several = table().choices.filter((column) => texts[column].values.length > 1);
    const known = ["who", ...several];
    if (!known.includes(chosen.by)) chosen.by = layered() ? "who" : several[0] ?? "who";
    if (![...known, ...(layered() ? ["layer"] : [])].includes(chosen.over) || chosen.over === chosen.by)
      chosen.over = layered() ? "layer" : known.find((column) => column !== chosen.by) ?? "who";
    asked.replaceChildren(select("question", [
      ...(question ? [] : [element("option", { value: "", textContent: "your own choice" })]),
      ...grouped(Object.entries(parts).map(([part, of]) => [part, Object.entries(of).filter(([, { experiment }]) => index[experiment])
        .map(([value, { question }]) => element("option", { value, id: value, textContent: question }))])),
    ], question ?? ""));
    if (pages[chosen.experiment]) {
      const anchor = questions[question]?.figures?.[0];
      asked.append(element("a", { href: pages[chosen.experiment] + (anchor ? `#${anchor}` : ""), textContent: `The chapter on ${chosen.experiment}` }));
    }

    // Menus by part, those alone that leave something to choose.
    const fields = Object.fromEntries(Object.keys(menus).map((part) => [part, []]));
    const put = (name, options) => fields[Object.keys(menus).find((part) => name in menus[part]) ?? "how"].push(select(name, options));
    const experiments = Object.entries(parts).map(([part, of]) =>
      [part, [...new Set(Object.values(of).map(({ experiment }) => experiment))].filter((one) => index[one]).map((one) => option(one, "experiment"))]);
    put("experiment", grouped(experiments));
    put("metric", index[chosen.experiment].map((one) => option(one, "metric")));
    choices().forEach((name, depth) => {
      const { best, values } = ranked(name, narrowed(depth));
      if (!values.includes(String(chosen[name]))) chosen[name] = best;
      if (values.length > 1) put(name, values.map((one) => option(one, name)));
    });
    put("by", known.filter((one) => one !== chosen.over).map((one) => element("option", { value: one, textContent: title(one) })));
    put("over", [...(layered() ? ["layer"] : []), ...(layered() && chosen.by === "who" ? [] : known)].filter((one) => one !== chosen.by)
      .map((one) => element("option", { value: one, textContent: title(one) })));
    controls.replaceChildren(...Object.entries(fields).filter(([, made]) => made.length)
      .map(([part, made]) => element("fieldset", {}, element("legend", { textContent: part }), ...made)));

    const present = new Set(narrowed(choices().length).map((row) => text("who", row)));
    const here = models.filter(({ who }) => present.has(who));
    const single = !spread().includes("who");
    if (!here.some(({ who }) => shown.has(who))) {
      // at first the runs and one model of the paper, the one studied in detail if it is there
      const theirs = here.filter(({ kind }) => kind === "paper");
      const one = theirs.find(({ who }) => who.startsWith("Llama 3.2")) ?? theirs[0];
      here.filter((model) => model.kind === "run" || model === one).forEach(({ who }) => shown.add(who));
    }
    // With a line for each of something else there is room for one model.
    const first = here.find(({ who }) => shown.has(who));
    boxes.replaceChildren(boxes.firstChild, ...here.map((model) => toggle(model, single, first)));
    draw();
  }

  function toggle({ who, kind, colour }, single, first) {
    const type = single ? "radio" : "checkbox";
    const box = element("input", { type, name: "emolib-model", checked: single ? who === first.who : shown.has(who), value: who });
    box.addEventListener("change", () => {
      if (single) shown = new Set([who]);
      else shown[box.checked ? "add" : "delete"](who);
      draw();
    });
    const swatch = element("span", { className: `emolib-swatch emolib-${kind}` });
    swatch.style.borderColor = colour;
    return element("label", {}, box, ...(single ? [] : [swatch]), who);
  }

  const columns = () => [["who", "model"], ...spread().filter((name) => !["who", "layer"].includes(name)).map((name) => [name, title(name)]),
    ...(layered() ? [["place", "layer"]] : []), ["shown", "value"], ["interval", "95% interval"], ["n", "n"], ["where", "source"]];
  const short = (value) => (value === null ? "" : Number(value.toPrecision(4)).toString());
  let rows = [];
  let drawn = Promise.resolve();

  const inks = (...parts) => Object.fromEntries(parts.map((part) => [`${part}Color`, "currentColor"]));
  const config = {
    font: "system-ui, sans-serif", view: { stroke: null },
    axis: { ...inks("label", "title", "domain", "tick", "grid"), gridOpacity: 0.15, labelFontSize: 13, titleFontSize: 13, titleFontWeight: "normal", labelLimit: 150 },
    legend: { ...inks("label", "title"), labelFontSize: 13, titleFontSize: 13, titleFontWeight: "normal", labelLimit: 320, titleLimit: 320 },
  };
  // A name's own colour, in the book one and the same, or one in turn.
  const coloured = (all) => all.map((name, number) => colours[name] ?? cycle[number % cycle.length]);
  // The measure's level of comparison, if it is one of this choice.
  function level() {
    const known = Object.entries(levels[chosen.experiment]?.[chosen.metric] ?? {})[0];
    return known && { name: known[0], value: known[1] };
  }

  // The rows as lines over depth with their intervals, the paper's dashed, in Vega-Lite.
  function lines(title, order) {
    const who = chosen.by === "who";
    const scale = who ? { domain: models.map(({ who }) => who), range: models.map(({ colour }) => colour) }
      : { domain: order.map((one) => readable(one, chosen.by)), range: coloured(order) };
    const axis = { title: "depth: layer / number of layers", tickCount: 5 };
    const y = { field: "value", type: "quantitative", title, scale: { zero: false, nice: true } };
    const tooltip = columns().map(([field, head]) => ({ field, type: "nominal", title: head }));
    const dashes = { condition: { test: "datum.kind === 'paper'", value: [5, 3] }, value: [1, 0] };
    const legend = who ? null : { orient: "bottom", columns: figure.clientWidth < 500 ? 1 : 2, title: null, symbolOpacity: 1, symbolType: "circle" };
    const compared = level();
    return {
      width: "container", height: 360, data: { values: rows },
      encoding: {
        x: { field: "depth", type: "quantitative", axis, scale: { domain: [0, 1] } },
        color: { field: who ? "who" : chosen.by, type: "nominal", scale, legend },
      },
      layer: [
        {
          transform: [{ filter: "isValid(datum.ci_low)" }], mark: { type: "area", opacity: 0.18, aria: false },
          encoding: { y: { field: "ci_low", type: "quantitative", title }, y2: { field: "ci_high" } },
        },
        { mark: { type: "line", strokeWidth: 2, aria: false }, encoding: { y, strokeDash: dashes } },
        { mark: { type: "point", filled: true, size: 40, opacity: 1 }, encoding: { y, tooltip } },
        ...(compared ? [
          { data: { values: [{ level: compared.value }] }, mark: { type: "rule", strokeDash: [1, 3], strokeWidth: 1.5, color: "currentColor", aria: false },
            encoding: { x: null, color: null, y: { field: "level", type: "quantitative", title } } },
          { data: { values: [{ level: compared.value, name: compared.name, depth: 1 }] },
            mark: { type: "text", align: "right", baseline: "bottom", dy: -3, fontSize: 12, color: "currentColor", aria: false },
            encoding: { color: null, text: { field: "name" }, y: { field: "level", type: "quantitative", title } } },
        ] : []),
      ],
    };
  }

  // The rows as a heat map: what a line would be is a row, what depth would be are the columns.
  function heat(legend, order, across) {
    const low = Math.min(...rows.map(({ shade }) => shade)), high = Math.max(...rows.map(({ shade }) => shade));
    const compared = level();
    const middle = compared && compared.name !== "chance" && low < compared.value && high > compared.value ? compared.value : null;
    const reach = middle === null ? 0 : Math.max(high - middle, middle - low);
    const scale = middle === null ? { scheme: "viridis" } : { scheme: "purpleorange", domain: [middle - reach, middle + reach] };
    const tooltip = columns().map(([field, head]) => ({ field, type: "nominal", title: head }));
    const layers = chosen.over === "layer";
    const x = layers ? { field: "number", type: "ordinal", title: "layer", axis: { labelAngle: 0, labelOverlap: true } }
      : { field: chosen.over, type: "nominal", title: title(chosen.over), sort: across.map((one) => readable(one, chosen.over)), axis: across.length > 4 ? { labelAngle: -45, labelLimit: 180 } : { labelAngle: 0, labelLimit: (figure.clientWidth - 160) / across.length } };
    return {
      title: { text: legend, anchor: "start", frame: "bounds", fontSize: 13, fontWeight: "normal", color: "currentColor", limit: figure.clientWidth },
      width: "container", height: { step: order.length > 8 ? 22 : 32 }, data: { values: rows },
      mark: { type: "rect", stroke: null },
      encoding: {
        x: { ...x, scale: { paddingInner: 0.03 } },
        y: { field: chosen.by, type: "nominal", title: null, sort: order.map((one) => readable(one, chosen.by)), scale: { paddingInner: 0.06 } },
        color: { field: "shade", type: "quantitative", scale, legend: { orient: "top", title: null, gradientLength: Math.max(120, Math.min(260, figure.clientWidth - 210)) } },
        tooltip,
      },
    };
  }

  function draw() {
    const { numbers } = table();
    const single = !spread().includes("who");
    const first = models.find(({ who }) => shown.has(who) && boxes.querySelector(`[value="${CSS.escape(who)}"]`))?.who;
    const wanted = (row) => (single ? text("who", row) === first : shown.has(text("who", row)));
    const found = narrowed(choices().length).filter(wanted);
    rows = found.map((row) => {
      const one = Object.fromEntries(Object.keys(numbers).map((name) => [name, numbers[name][row]]));
      const who = text("who", row);
      const made = {
        ...one, who, where: text("where", row), kind: models.find((model) => model.who === who).kind, shown: short(one.value), shade: one.value,
        interval: one.ci_low === null ? "none" : `${short(one.ci_low)} to ${short(one.ci_high)}`, n: one.n ?? "not stated",
        depth: (one.layer + 1) / one.n_layers, number: one.layer + 1, place: `${one.layer + 1} of ${one.n_layers}`,
      };
      for (const name of spread()) if (!["who", "layer"].includes(name)) made[name] = readable(text(name, row), name);
      return made;
    });
    // Events that turn into others: what counts is the share of each row.
    const shares = ["confusion_count", "flow"].includes(chosen.metric) && chosen.over !== "layer";
    if (shares) {
      const sums = {};
      for (const row of rows) sums[row[chosen.by]] = (sums[row[chosen.by]] ?? 0) + row.value;
      for (const row of rows) row.shade = row.value / sums[row[chosen.by]];
    }
    const ordered = (name) => (name === "layer" ? [] : [...new Set(found.map((row) => text(name, row)))].sort((a, b) => rank(name, a) - rank(name, b)));
    const order = ordered(chosen.by);
    const over = chosen.over === "layer" && !(chosen.by !== "who" && order.length > 6);
    const measure = readable(chosen.metric, "metric");
    status.textContent = rows.length ? "" : "No model is chosen: tick one below.";
    const drawing = {
      description: `${measure}, ${rows.length} values; listed in the table below`, background: "transparent", config,
      ...(over ? lines(measure, order) : heat(shares ? "share of the row" : measure, order, ordered(chosen.over))),
    };
    const options = { mode: "vega-lite", renderer: "svg", actions: false, tooltip: { theme: "custom" } };
    address();
    // One after the other: quick choices would otherwise draw into each other.
    root.removeAttribute("data-rows");
    drawn = drawn.then(async (last) => {
      last?.finalize();
      const result = await window.vegaEmbed(figure, drawing, options);
      root.dataset.rows = drawing.data.values.length;
      return result;
    });
    const quoted = (value) => `"${String(value ?? "").replaceAll('"', '""')}"`;
    const heads = ["experiment", "metric", ...choices()];
    const lineup = [[...heads, ...columns().map(([, head]) => head)],
      ...rows.map((row) => [...heads.map((name) => chosen[name]), ...columns().map(([name]) => row[name])])];
    save.href = `data:text/csv;charset=utf-8,${encodeURIComponent(lineup.map((line) => line.map(quoted).join(",")).join("\n"))}`;
    if (details.open) fillList();
  }

  // The order of the book: emotions and parts as they are coloured, models as listed, other words as questions.yml has them.
  function rank(name, one) {
    if (name === "who") return models.findIndex(({ who }) => who === one);
    for (const known of [Object.keys(words[name] ?? {}), Object.keys(colours)]) if (known.includes(one)) return known.indexOf(one);
    return 1000 + table().texts[name].values.indexOf(one);
  }

  function fillList() {
    const head = element("tr", {}, ...columns().map(([, textContent]) => element("th", { textContent, scope: "col" })));
    const body = rows.map((row) =>
      element("tr", {}, ...columns().map(([name]) => element("td", { textContent: row[name] ?? "" }))));
    const made = element("table", { className: "table" }, element("thead", {}, head), element("tbody", {}, ...body));
    list.replaceChildren(made);
    window.emolibSortable(made);
  }

  window.addEventListener("hashchange", () => { restore(); refresh(); });
  restore();
  refresh();
});
