// The page book/ask.md: the answers were computed before (emolib.book.answers), one file a model, loaded when it is chosen.
{
  const folder = new URL("answers/", document.currentScript.src);
  document.addEventListener("DOMContentLoaded", () => {
    const { events, corpus, colours, names, pushes, models } = window.emolibQuestions;
    const element = window.emolibElement;
    const root = document.getElementById("emolib-ask");
    const kinds = { zero: "silence: zeros in its place", resample: "swap: a random event's in its place",
      patch: "patch: a chosen event's in its place", push: "push: a direction added" };
    const titles = { edit: "edit", what: { patch: "taken from", push: "pushed towards" }, dose: "dose (share of the stream's length)", component: "component" };
    const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
    const short = (text) => (text.length > 70 ? `${text.slice(0, 68).trimEnd()} …` : text);
    const chosen = {};
    const files = {};
    let shown;  // the file of the chosen model, once it is there

    const place = element("div", { className: "emolib-controls" });
    const event = element("blockquote", { className: "emolib-event" });
    const said = element("p", { className: "emolib-said", role: "status" });
    const bars = element("tbody");
    const head = ["label", "", "left alone", "edited"].map((textContent) => element("th", { textContent, scope: "col" }));
    const table = element("table", { className: "emolib-bars" }, element("thead", {}, element("tr", {}, ...head)), bars);
    const stacks = element("div", { className: "emolib-stacks", role: "img" });
    const slider = element("input", { type: "range", min: 0, name: "layer" });
    const where = element("span");
    const layers = element("label", { className: "emolib-layers" }, where, slider);
    const over = element("div", {}, element("p", { textContent: "Left alone (first column) and with the same edit in each place; at the foot the answer" }), stacks, layers);
    const rows = element("tbody");
    const columns = ["layers", "answer", "share", "share of the answer left alone"];
    const listed = element("table", { className: "table" },
      element("thead", {}, element("tr", {}, ...columns.map((textContent) => element("th", { textContent, scope: "col" })))), rows);
    const box = element("div", { className: "emolib-rows", tabIndex: 0, role: "region", ariaLabel: "the answers in all layers" }, listed);
    const details = element("details", {}, element("summary", { textContent: "The answers in all layers as a table" }), box);
    const note = element("p", { className: "emolib-note" });
    root.append(place, event, said, element("div", { className: "emolib-views" }, table, over), details, note);
    details.addEventListener("toggle", () => details.open && list());

    // The file of a model with its bytes, each again what it was before it was written as a difference to its predecessor.
    const load = (model) => files[model] ??= new Promise((resolve, reject) => {
      const script = element("script", { src: new URL(`${encodeURIComponent(model)}.js`, folder).href });
      script.addEventListener("error", () => reject(new Error(`${script.src} could not be loaded`)));
      script.addEventListener("load", () => resolve(unpack(window.emolibAnswers[model])));
      document.head.append(script);
    });

    async function unpack(file) {
      if (file.about.corpus_sha256 !== corpus)
        throw new Error(`the answers of ${file.model} are to other events than these: compute them anew, with emolib answers --model ${file.model}`);
      const packed = Uint8Array.from(atob(file.packed), (letter) => letter.charCodeAt(0));
      const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
      const bytes = new Int8Array(await new Response(stream).arrayBuffer());
      const size = file.labels.length * events.length;
      const series = [];
      let edit = 0;
      for (const [kind, what, dose, component, centres] of file.series) {
        series.push({ edit: kind, what, dose: String(Math.abs(dose)), component, centres, first: edit, ...(dose < 0 && { what: `-${what}` }) });
        for (let i = (edit + 1) * size; i < (edit + centres.length) * size; i++) bytes[i] += bytes[i - size];
        edit += centres.length;
      }
      return { ...file, bytes, series, order: Object.keys(colours).map((name) => file.labels.indexOf(name)) };
    }

    // Shares of the labels of one event under an edit, or without one, and the label with the highest.
    function answer(row, edit) {
      const { labels, clean, steps, bytes } = shown;
      const logits = labels.map((_, label) => clean[row * labels.length + label] * 0.001
        + (edit === undefined ? 0 : steps[edit] * bytes[(edit * labels.length + label) * events.length + row]));
      const highest = Math.max(...logits);
      const weights = logits.map((one) => Math.exp(one - highest));
      const total = weights.reduce((a, b) => a + b);
      return { shares: weights.map((one) => one / total), label: logits.indexOf(highest) };
    }

    const towards = (what) => {
      const name = what.replace("-", "");
      return pushes[name]?.[+what.startsWith("-")] ?? name;
    };
    const readable = {
      edit: (kind) => kinds[kind],
      what: (what) => chosen.edit === "patch" ? `${what}: ${short(events[shown.surest[what]].text)}` : towards(what),
      dose: (dose) => dose,
      component: (name) => names[name],
    };

    // A box with these values; the same one as long as they are the same, because it may have the focus.
    function select(name, title, values, text) {
      const texts = values.map(text);
      let made = place.querySelector(`[name="${name}"]`);
      if (!made || [...made.options].map((one) => one.textContent).join() !== texts.join()) {
        made = element("select", { name }, ...values.map((value, i) => element("option", { value, textContent: texts[i] })));
        made.addEventListener("change", () => {
          chosen[name] = made.value;
          if (name === "written") delete chosen.event;
          if (name === "model") open(); else refresh();
          place.querySelector(`[name="${name}"]`)?.focus();
        });
        made = element("label", {}, element("span", { textContent: title }), made).lastChild;
      }
      made.value = chosen[name];
      return made.parentNode;
    }

    const any = element("button", { type: "button", textContent: "Any other event", className: "emolib-any" });
    any.addEventListener("click", () => {
      chosen.event = events[Math.floor(Math.random() * events.length)].id;
      refresh();
    });

    function refresh() {
      const labels = Object.keys(colours);
      if (!events.some(({ id }) => id === chosen.event))
        chosen.event = chosen.written ? events.find(({ emotion }) => emotion === chosen.written).id : events[shown.surest.guilt].id;
      const row = events.findIndex(({ id }) => id === chosen.event);
      chosen.written = events[row].emotion;
      const own = [...events.keys()].filter((one) => events[one].emotion === chosen.written);
      const right = (one) => shown.labels[answer(one).label] === events[one].emotion;
      const titled = (id) => {
        const one = events.findIndex((known) => known.id === id);
        return `${right(one) ? "✓ " : ""}${short(events[one].text)}`;
      };
      const boxes = [
        select("model", "model", models.map(({ file }) => file), (name) => models.find(({ file }) => file === name).title),
        select("written", "written about", labels, (name) => name), any,
        select("event", "event (✓ the model, left alone, agrees with its writer)", own.map((one) => events[one].id), titled)];
      let fits = shown.series;
      for (const name of ["edit", "what", "component", "dose"]) {
        const values = [...new Set(fits.map((one) => one[name]))];
        const usual = { edit: "patch", what: "joy", component: "resid_post", dose: values.at(-1) }[name];
        if (!values.includes(chosen[name])) chosen[name] = values.includes(usual) ? usual : values[0];
        if (values.length > 1) boxes.push(select(name, titles[name][chosen.edit] ?? titles[name], values, readable[name]));
        fits = fits.filter((one) => one[name] === chosen[name]);
      }
      if (boxes.length !== place.children.length || boxes.some((one, i) => one !== place.children[i])) place.replaceChildren(...boxes);
      const [{ centres, first }] = fits;
      const wished = Number(chosen.layer ?? shown.n_layers * 0.7) - 1;
      slider.max = centres.length - 1;
      slider.value = centres.reduce((best, centre, at) => Math.abs(centre - wished) < Math.abs(centres[best] - wished) ? at : best, 0);
      draw(row, centres, first);
    }

    let current;
    function draw(row, centres, first) {
      const alone = answer(row), edited = centres.map((_, at) => answer(row, first + at));
      current = { row, centres, first, alone, edited };
      const { emotion, text } = events[row];
      const other = { patch: shown.surest[chosen.what], resample: shown.resampled[row] }[chosen.edit];
      event.replaceChildren(element("p", {}, text, " ", element("cite", { textContent: `written about ${emotion}` })));
      if (other !== undefined) {
        const cite = element("cite", { textContent: `the other event, written about ${events[other].emotion}` });
        event.append(element("p", {}, events[other].text, " ", cite));
      }
      stacks.replaceChildren(column(alone, "left alone"), ...edited.map((one, at) => column(one, span(centres[at]), at)));
      const words = shown.labels[alone.label];
      const ends = [...new Set(edited.map(({ label }) => shown.labels[label]))].join(", ");
      stacks.ariaLabel = `Shares of the thirteen labels, left alone (answer ${words}) and with the edit in each window of layers; answers: ${ends}`;
      choose(Number(slider.value));
    }

    const span = (centre) => {
      const half = (shown.span - 1) / 2;
      return `layers ${centre + 1 - half} to ${centre + 1 + half}`;
    };

    function column({ shares, label }, title, at) {
      const parts = shown.order.map((one) => {
        const part = element("i");
        part.style.flexGrow = shares[one];
        part.style.background = colours[shown.labels[one]];
        return part;
      });
      const foot = element("b");
      foot.style.background = colours[shown.labels[label]];
      const made = element("div", { title: `${title}: ${shown.labels[label]}` }, element("div", {}, ...parts), foot);
      if (at === undefined) made.className = "emolib-alone";
      else made.addEventListener("click", () => { slider.value = at; moved(); });
      return made;
    }

    // The chosen window of layers: bars, the sentence, the address.
    function choose(index) {
      const { centres, alone, edited } = current;
      const { shares, label } = edited[index];
      chosen.layer = String(centres[index] + 1);
      where.textContent = `${span(centres[index])} of ${shown.n_layers}`;
      slider.ariaValueText = where.textContent;
      [...stacks.children].forEach((one, number) => one.classList.toggle("emolib-chosen", number === index + 1));
      const highest = Math.max(...[alone, ...edited].flatMap((one) => one.shares));
      bars.replaceChildren(...shown.order.map((one) => {
        const bar = (share, filled) => {
          const made = element("div");
          made.style.width = `${100 * share / highest}%`;
          if (filled) made.style.background = colours[shown.labels[one]];
          return made;
        };
        const cell = (share, best) => element("td", { textContent: percent(share), className: best === one ? "emolib-answer" : "" });
        const name = element("th", { textContent: shown.labels[one], scope: "row" });
        name.style.borderLeftColor = colours[shown.labels[one]];
        return element("tr", {}, name, element("td", {}, bar(alone.shares[one]), bar(shares[one], true)), cell(alone.shares[one], alone.label), cell(shares[one], label));
      }));
      said.textContent = sentence(index);
      if (details.open) list();
      const used = ["model", "event", "edit", ...["what", "component", "dose"].filter((name) => place.querySelector(`[name=${name}]`)), "layer"];
      history.replaceState(null, "", `#${new URLSearchParams(used.map((name) => [name, chosen[name]]))}`);
      root.dataset.shown = location.hash;
    }

    function sentence(index) {
      const { centres, alone, edited } = current;
      const { shares, label } = edited[index];
      const { labels } = shown;
      const there = span(centres[index]);
      const done = {
        zero: `With the ${names[chosen.component]} of ${there} silenced`,
        resample: `With the ${names[chosen.component]} of ${there} taken from the other event`,
        patch: `With the ${names[chosen.component]} of ${there} taken from the other event`,
        push: `Pushed towards ${towards(chosen.what)} in ${there}`,
      }[chosen.edit];
      const moves = shares.map((share, one) => Math.abs(share - alone.shares[one]));
      const most = moves.indexOf(Math.max(...moves));
      const said = (one, all) => `${labels[one]} (${percent(all[one])})`;
      return `Left alone, the model answers ${said(alone.label, alone.shares)}. `
        + `${done}, it ${label === alone.label ? "still " : ""}answers ${said(label, shares)}. `
        + `The label that moves most is ${labels[most]}, from ${percent(alone.shares[most])} to ${percent(shares[most])}.`;
    }

    function list() {
      const { centres, alone, edited } = current;
      rows.replaceChildren(...edited.map(({ shares, label }, index) => element("tr", {},
        ...[span(centres[index]), shown.labels[label], percent(shares[label]), percent(shares[alone.label])].map((textContent) => element("td", { textContent })))));
    }

    function moved() { choose(Number(slider.value)); }
    slider.addEventListener("input", moved);

    const unable = (why) => { said.textContent = why; root.dataset.shown = ""; };

    async function open() {
      if (!models.some(({ file }) => file === chosen.model)) chosen.model = models[0]?.file;
      if (!chosen.model) { unable("No model's answers are here: emolib answers --model NAME computes them."); return; }
      root.removeAttribute("data-shown");
      said.textContent = "The answers are being loaded.";
      const wanted = chosen.model;
      try {
        const file = await load(wanted);
        if (wanted !== chosen.model) return;  // another one was chosen meanwhile
        shown = file;
        delete root.dataset.offered;
      } catch (error) {
        unable(`The answers are not to be had: ${error.message}.`);
        return;
      }
      const { about, steps } = shown;
      note.textContent = `Of ${models.find(({ file }) => file === wanted).title}, weights ${about.model_revision.slice(0, 12)}, computed ${about.utc.slice(0, 10)} in ${about.parameters.dtype}. `
        + `Stored in steps of ${Math.min(...steps)} of a logit, or of a 126th of the largest change where an edit does more than 126 steps. `
        + `${models.length > 1 ? "Answers of other models are loaded when they are chosen." : "So far it is the only model whose answers are stored."}`;
      refresh();
    }

    // Nothing large is loaded before it is asked for.
    function offer() {
      const start = element("button", { type: "button", className: "emolib-any", textContent: `Ask ${models[0].title} (loads ${models[0].megabytes} MB)` });
      start.addEventListener("click", async () => { await open(); place.querySelector("select")?.focus(); });
      place.replaceChildren(start);
      root.dataset.offered = "";
    }

    // An address without choices is one of a heading.
    function follow() {
      if (!location.hash.includes("=")) { if (!shown && models.length) offer(); else if (!shown) open(); return; }
      for (const name in chosen) delete chosen[name];
      Object.assign(chosen, Object.fromEntries(new URLSearchParams(location.hash.slice(1))));
      open();
    }
    window.addEventListener("hashchange", follow);
    follow();
  });
}
