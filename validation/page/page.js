"use strict";
// The page's own script: unpacks the columns, filters, sorts tables, and draws each plot when it comes into view.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, text, attributes = {}) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const FILTERS = { device: "GPU", run: "run", format: "format", dtype: "dtype", network: "network", kernel: "kernel" };
  const SYMBOLS = { csr: "circle", bsr: "square", nm: "triangle" };
  const PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#332288", "#882255", "#999933", "#44AA99", "#661100", "#6699CC"];

  // --- rows -----------------------------------------------------------------------------------------------------
  const { text, figures, count } = data.pairs;
  const pairs = Array.from({ length: count }, (_, i) => {
    const row = {};
    for (const name in text) row[name] = text[name].names[text[name].codes[i]];
    for (const name in figures) row[name] = figures[name][i];
    row.parity = row.measured / row.predicted;
    row.shape = `${row.M} x ${row.K} x ${row.N}`;
    return row;
  });
  const kernels = text.kernel.names;
  const number = (value) => value === null || value === undefined || Number.isNaN(value) ? "" : Number.isInteger(value) && Math.abs(value) < 1e7 ? String(value) : Math.abs(value) >= 1e4 ? d3.format(".3s")(value) : String(+value.toPrecision(3));
  const geomean = (values) => { const kept = values.filter((v) => v > 0); return kept.length ? Math.exp(d3.mean(kept, Math.log)) : NaN; };
  const percent = (share) => Number.isFinite(share) ? `${number(100 * share)} %` : "-";
  const say = (d) => [
    `${d.kernel}, ${d.dtype}, ${d.block ? `${d.format} ${d.block}` : d.format}`, `${d.shape}, sparsity ${number(d.level)}`, d.matrix,
    `predicted ${number(d.predicted)}${d.refined === null ? "" : ` (refined ${number(d.refined)})`}, measured ${number(d.measured)}${d.low === null ? "" : ` (${number(d.low)} to ${number(d.high)})`}`,
    `fraction of SoL ${number(d.f)} sparse, ${number(d.fd)} dense; parity ${number(d.parity)}`,
    `${number(d.ts)} us, ${d.dense_kernel} ${number(d.td)} us; ${d.bounds}`,
    `${d.device}, ${d.run}, records ${d.s} and ${d.d}`, d.notes].filter(Boolean).join("\n");

  // --- state ----------------------------------------------------------------------------------------------------
  const off = Object.fromEntries(Object.keys(FILTERS).map((name) => [name, new Set()]));
  let withBelow = false;
  const passes = (row) => Object.keys(FILTERS).every((name) => row[name] === undefined || !off[name].has(row[name]));
  let chosen = [];
  const dark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark" && !matchMedia("print").matches;
  const colour = (kernel) => {
    const base = PALETTE[Math.max(kernels.indexOf(kernel), 0) % PALETTE.length];
    if (!dark()) return base;
    const shade = d3.hsl(base);
    shade.l = Math.max(shade.l, 0.62);
    return shade.formatHex();
  };
  const symbol = (format) => SYMBOLS[format] || "cross";

  // --- panels ---------------------------------------------------------------------------------------------------
  const GREY = "#888";
  function panel(title, width, options, points, label) {
    const box = make("div", undefined, { class: "panel", tabindex: "0", role: "group", "aria-label": `${title}: ${points.length} points; arrow keys read them` });
    box.append(make("h4", title));
    const svg = Plot.plot({ width, height: Math.round(Math.min(width * 0.72, 340)), marginLeft: 52, marginRight: 14, marginBottom: 38, style: { fontSize: "11.5px", background: "none" }, ...options });
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", title);
    box.append(svg);
    if (label && points.length) {
      let at = -1;
      const out = () => $("output", box.closest("figure"));
      box.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        at = (at + step + points.length) % points.length;
        out().textContent = `${at + 1} of ${points.length}: ${label(points[at])}`;
      });
    }
    return box;
  }
  const tip = (points, x, y, label = say) => Plot.tip(points, Plot.pointer({ x, y, title: label, fontSize: 11.5, lineWidth: innerWidth < 640 ? 22 : 34, lineHeight: 1.2, maxRadius: 20 }));
  const dots = (points, x, y, more = {}) => Plot.dot(points, { x, y, fill: (d) => colour(d.kernel), fillOpacity: (d) => d.below ? 0.15 : 0.7, stroke: (d) => colour(d.kernel), strokeWidth: (d) => d.below ? 0.7 : 0.3, symbol: (d) => symbol(d.format), r: points.length > 600 ? 2.3 : 3.2, ...more });
  // Ticks are given one by one: over more than two decades D3 keeps the marks of 2 and 5 and drops their labels.
  const logAxis = (label, domain) => {
    const [low, high] = domain.map(Math.log10), steps = high - low > 2.2 ? [1] : [1, 2, 5];
    const ticks = d3.range(Math.floor(low), Math.ceil(high) + 1).flatMap((power) => steps.map((step) => +`${step}e${power}`)).filter((v) => v >= domain[0] && v <= domain[1]);
    return { type: "log", label, domain, grid: true, ticks, tickFormat: number };
  };
  const groups = (rows, key) => d3.groups(rows, key).sort((a, b) => d3.ascending(a[0], b[0]));
  const range = (values, pad = 1.15) => { const [low, high] = d3.extent(values.filter((v) => v > 0)); return low === undefined ? [0.5, 2] : [low / pad, high * pad]; };
  const span = (values, pad = 1.15) => range([...values, 1], pad);

  const plots = {
    parity(width) {
      const x = span(chosen.map((d) => d.predicted)), y = span(chosen.map((d) => d.measured));
      const line = (factor) => Plot.line([1e-4, 1e5].map((v) => [v, v * factor]), { clip: true, stroke: factor === 1 ? "currentColor" : GREY, strokeDasharray: factor === 1 ? null : "4 3" });
      return groups(chosen, (d) => `${d.format} ${d.dtype}${where(d)}`).map(([name, rows]) => panel(name, width, {
        x: logAxis("predicted speedup", x), y: logAxis("measured speedup", y),
        marks: [Plot.ruleX([1], { stroke: GREY, strokeOpacity: 0.5 }), Plot.ruleY([1], { stroke: GREY, strokeOpacity: 0.5 }), line(1), line(2), line(0.5), dots(rows, "predicted", "measured"), tip(rows, "predicted", "measured")],
      }, rows, say));
    },
    residual(width) {
      const y = span(chosen.map((d) => d.parity)), x = range(chosen.map((d) => d.wd));
      return groups(chosen, (d) => `${d.format} ${d.dtype}${where(d)}`).map(([name, rows]) => panel(name, width, {
        x: logAxis("dense work, GFLOP", x), y: logAxis("parity", y),
        marks: [Plot.ruleY([1]), Plot.ruleY([0.5, 2], { stroke: GREY, strokeDasharray: "4 3" }), dots(rows, "wd", "parity"), tip(rows, "wd", "parity")],
      }, rows, say));
    },
    sparsity(width) {
      const shape = $("#shape").value, rows = shape ? chosen.filter((d) => d.shape === shape) : chosen;
      const lines = [];
      for (const [, some] of d3.groups(rows, (d) => `${d.kernel}|${d.block}|${d.dtype}|${d.device}|${d.run}`)) {
        for (const [level, at] of groups(some, (d) => d.level)) {
          const one = at[0];
          lines.push({ kernel: one.kernel, format: one.format, block: one.block, dtype: one.dtype, device: one.device, run: one.run, level, n: at.length, line: `${one.kernel} ${one.block} ${one.device} ${one.run}`,
            predicted: geomean(at.map((d) => d.predicted)), measured: geomean(at.map((d) => d.measured)), refined: geomean(at.map((d) => d.refined)) });
        }
      }
      const label = (d) => `${d.kernel} ${d.block} ${d.dtype}, sparsity ${number(d.level)}\npredicted ${number(d.predicted)}, refined ${number(d.refined)}, measured ${number(d.measured)}\n${d.n} pairs; ${d.device}, ${d.run}`;
      const y = span(lines.flatMap((d) => [d.predicted, d.measured]));
      const levels = d3.extent(lines, (d) => d.level);
      return groups(lines, (d) => `${d.format}${d.block ? ` ${d.block}` : ""} ${d.dtype}${where(d)}`).map(([name, some]) => panel(name, width, {
        x: { label: "sparsity", domain: [Math.max(0, levels[0] - 0.04), Math.min(1, levels[1] + 0.04)] }, y: logAxis("speedup", y),
        marks: [Plot.ruleY([1], { stroke: GREY }),
          Plot.line(some, { x: "level", y: "predicted", z: "line", stroke: (d) => colour(d.kernel), strokeDasharray: "6 4" }),
          Plot.line(some.filter((d) => Number.isFinite(d.refined)), { x: "level", y: "refined", z: "line", stroke: (d) => colour(d.kernel), strokeDasharray: "1.5 3" }),
          Plot.line(some, { x: "level", y: "measured", z: "line", stroke: (d) => colour(d.kernel), strokeWidth: 2 }),
          Plot.dot(some, { x: "level", y: "predicted", stroke: (d) => colour(d.kernel), r: 2 }),
          Plot.dot(some, { x: "level", y: "measured", fill: (d) => colour(d.kernel), symbol: (d) => symbol(d.format), r: 3.5 }), tip(some, "level", "measured", label)],
      }, some, label));
    },
    heat(width) {
      const bin = (n) => Math.floor(Math.log2(Math.max(n, 1)) / 2), name = (b) => `${d3.format(",")(4 ** b)} to ${d3.format(",")(4 ** (b + 1) - 1)}`;
      const cells = [];
      for (const [key, rows] of groups(chosen, (d) => `${d.kernel} ${d.dtype}${where(d)}`))
        for (const [level, some] of groups(rows, (d) => d.level))
          for (const [b, at] of groups(some, (d) => bin(d.N))) cells.push({ key, level, b, f: geomean(at.map((d) => d.f)), n: at.length });
      const label = (d) => `${d.key}, N ${name(d.b)}, sparsity ${number(d.level)}\nfraction of SoL ${number(d.f)}, geometric mean of ${d.n}`;
      const levels = d3.sort(new Set(cells.map((d) => d.level)));
      return groups(cells, (d) => d.key).map(([key, some]) => panel(key, width, {
        marginLeft: 124, height: 70 + 26 * new Set(some.map((d) => d.b)).size,
        x: { type: "band", label: "sparsity", domain: levels, tickFormat: number }, y: { type: "band", label: "N", domain: d3.sort(new Set(some.map((d) => d.b)), d3.descending), tickFormat: name },
        color: { scheme: "cividis", domain: [0, 1], clamp: true },
        marks: [Plot.cell(some, { x: "level", y: "b", fill: (d) => Math.min(d.f, 1), inset: 0.5 }), Plot.text(some, { x: "level", y: "b", text: (d) => number(+d.f.toPrecision(2)), fill: (d) => d.f > 0.55 ? "#000" : "#fff", fontSize: 10.5 }), tip(some, "level", "b", label)],
      }, some, label));
    },
    roofline(width) {
      const points = chosen.flatMap((d) => d.ws > 0 ? [{ ...d, ai: 1e3 * d.ws / d.bs, rate: 1e3 * d.ws / d.ts }] : []);
      const dense = [...new Map(chosen.map((d) => [`${d.run} ${d.d}`, { ...d, ai: 1e3 * d.wd / d.bd, rate: 1e3 * d.wd / d.td }])).values()];
      const x = span([...points, ...dense].map((d) => d.ai), 2);
      return groups(points, (d) => `${d.dtype}${where(d)}`).map(([name, rows]) => {
        const { dtype, device, run } = rows[0], mine = dense.filter((d) => d.dtype === dtype && d.run === run), lines = [], words = [];
        for (const roof of data.roofs.filter((r) => r.dtype === dtype && r.device === device))
          for (const [unit, peak] of Object.entries(roof.peaks)) {
            const id = `${roof.device}|${roof.kind}|${unit}`, bandwidth = roof.bandwidth ?? Infinity;
            for (const v of [x[0], ...(peak / bandwidth > x[0] && peak / bandwidth < x[1] ? [peak / bandwidth] : []), x[1]]) lines.push({ id, kind: roof.kind, ai: v, rate: Math.min(v * bandwidth, peak) / 1e3 });
            if (roof.kind === "datasheet" || !data.roofs.some((r) => r.kind === "datasheet" && r.dtype === dtype && r.device === device)) words.push({ ai: x[1], rate: peak / 1e3, text: `${unit} ${number(peak / 1e3)} TFLOP/s` });
          }
        const label = (d) => `${number(d.rate)} TFLOP/s at ${number(d.ai)} FLOP/B\n${say(d)}`;
        return panel(name, width, {
          x: logAxis("arithmetic intensity, FLOP/B", x), y: logAxis("TFLOP/s", range([...rows, ...mine, ...lines.filter((d) => d.ai > x[0])].map((d) => d.rate), 1.6)),
          marks: [...["datasheet", "measured"].map((kind) => Plot.line(lines.filter((d) => d.kind === kind), { x: "ai", y: "rate", z: "id", stroke: "currentColor", strokeDasharray: kind === "measured" ? "5 4" : null })),
            Plot.text(words, { x: "ai", y: "rate", text: "text", textAnchor: "end", dy: -7, fontSize: 10.5 }),
            Plot.dot(mine, { x: "ai", y: "rate", symbol: "diamond", stroke: GREY, r: 3 }), dots(rows, "ai", "rate"), tip(rows, "ai", "rate", label)],
        }, rows, label);
      });
    },
    equal(width) {
      const rows = data.equality.filter(passes);
      const label = (d) => `${d.format}, ${d.level}: ${d.pairs} pairs\nparity 10 % ${number(d.parity_p10)}, median ${number(d.parity_p50)}, 90 % ${number(d.parity_p90)}\ngeometric mean ${number(d.parity)} (${number(d.parity_low)} to ${number(d.parity_high)}); MAPE ${percent(d.mape)}\n${d.device}, ${d.run}`;
      const x = span(rows.flatMap((d) => [d.parity_p10, d.parity_p90]));
      return groups(rows, (d) => `${d.format}${where(d)}`).map(([name, some]) => panel(name, width, {
        height: 190, marginLeft: 68, x: logAxis("parity", x), y: { type: "point", label: null, domain: data.levels, padding: 0.7 },
        marks: [Plot.ruleX([1 / 1.1, 1 / 0.9], { stroke: GREY }), Plot.ruleX([1], { strokeDasharray: "3 3" }), Plot.ruleY(some, { y: "level", x1: "parity_p10", x2: "parity_p90", strokeWidth: 1.5 }),
          Plot.ruleY(some.filter((d) => d.parity_low !== null), { y: "level", x1: "parity_low", x2: "parity_high", strokeWidth: 7, strokeOpacity: 0.35 }), Plot.dot(some, { y: "level", x: "parity_p50", fill: "currentColor", r: 4 }), tip(some, "parity_p50", "level", label)],
      }, some, label));
    },
    fraction(width) {
      const points = chosen.map((d) => ({ ...d, least: Math.min(d.f, d.fd), error: Math.max(Math.abs(d.predicted / d.measured - 1), 1e-3) }));
      const label = (d) => `error ${percent(d.error)} at fraction ${number(d.least)}\n${say(d)}`;
      const x = range(points.map((d) => d.least)), y = range(points.map((d) => d.error));
      return groups(points, (d) => `${d.format} ${d.dtype}${where(d)}`).map(([name, rows]) => panel(name, width, {
        x: logAxis("smaller fraction of SoL", x), y: logAxis("error (1 = 100 %)", y), marks: [Plot.ruleY([0.1]), dots(rows, "least", "error"), tip(rows, "least", "error", label)],
      }, rows, label));
    },
    networks(width) {
      const rows = data.networks.filter((d) => passes(d) && netName(d) === $("#network").value);
      const label = (d) => `${netName(d)}, ${d.pattern} ${d.dtype}, sparsity ${number(d.level)}\npredicted ${number(d.predicted_speedup)}, refined ${number(d.refined_speedup)}, measured ${number(d.measured_speedup)}\n${percent(d.coverage)} of the dense work; ${d.device}, ${d.run}`;
      const y = span(rows.flatMap((d) => [d.predicted_speedup, d.measured_speedup]));
      return groups(rows, (d) => `${d.pattern} ${d.dtype}${where(d)}`).map(([name, some]) => panel(name, width, {
        height: 230, x: { label: "sparsity", domain: [0.4, 1] }, y: logAxis("speedup", y),
        marks: [Plot.ruleY([1], { stroke: GREY }), Plot.line(some, { x: "level", y: "predicted_speedup", stroke: "currentColor", strokeDasharray: "6 4" }), Plot.line(some.filter((d) => d.refined_speedup !== null), { x: "level", y: "refined_speedup", stroke: "currentColor", strokeDasharray: "1.5 3" }),
          Plot.line(some, { x: "level", y: "measured_speedup", stroke: "currentColor", strokeWidth: 2 }), Plot.dot(some, { x: "level", y: "predicted_speedup", stroke: "currentColor", r: 2.5 }), Plot.dot(some, { x: "level", y: "measured_speedup", fill: "currentColor", r: 3.5 }), tip(some, "level", "measured_speedup", label)],
      }, some, label));
    },
    accuracy(width) {
      const rows = data.accuracy.filter(passes);
      const label = (d) => `${netName(d)}, ${d.pattern} ${d.dtype}, sparsity ${number(d.level)}\naccuracy ${number(d.accuracy)} ${d.metric}\npredicted ${number(d.predicted_speedup)}, measured ${number(d.measured_speedup)}\n${d.device}, ${d.run}`;
      return groups(rows, (d) => `${netName(d)}, ${d.pattern}, ${d.dtype}${where(d)}`).map(([name, some]) => panel(name, width, {
        height: 250, x: logAxis("speedup", span(some.flatMap((d) => [d.predicted_speedup, d.measured_speedup]))), y: { label: some[0].metric || "accuracy", grid: true, nice: true },
        marks: [Plot.ruleX([1], { stroke: GREY }),
          ...["predicted", "measured"].flatMap((which) => [
            Plot.line(some.filter((d) => d[`${which}_front`]), { x: `${which}_speedup`, y: "accuracy", stroke: "currentColor", strokeDasharray: which === "predicted" ? "6 4" : null, sort: "accuracy" }),
            Plot.dot(some, { x: `${which}_speedup`, y: "accuracy", stroke: "currentColor", fill: which === "predicted" ? "none" : "currentColor", r: 4 })]),
          Plot.text(some, { x: "measured_speedup", y: "accuracy", text: (d) => number(d.level), dy: 12, fontSize: 10 }), tip(some, "measured_speedup", "accuracy", label)],
      }, some, label));
    },
  };
  const where = (d) => text.run.names.length > 1 ? `, ${d.run}` : "";
  const netName = (d) => `${d.network}, ${d.tokens === null ? `batch ${number(d.batch)}` : `${number(d.tokens)} tokens`}`;

  // --- drawing --------------------------------------------------------------------------------------------------
  const stale = new Set(), visible = new Set();
  function draw(id) {
    const figure = $(`#plot-${id}`), box = $(".panels", figure);
    stale.delete(id);
    const columns = Math.max(1, getComputedStyle(box).gridTemplateColumns.split(" ").length);
    const width = Math.max(240, Math.floor((box.clientWidth - 22 * (columns - 1)) / columns));
    let made = [];
    try { made = plots[id](Math.min(width, 620)); } catch (error) { console.error(id, error); box.replaceChildren(make("p", "This plot cannot be drawn.")); return; }
    box.replaceChildren(...(made.length ? made : [make("p", "Nothing is selected.")]));
    $("output", figure).textContent = "";
  }
  const ids = Object.keys(plots).filter((id) => $(`#plot-${id}`));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const id = entry.target.id.slice(5);
      if (entry.isIntersecting) visible.add(id); else visible.delete(id);
      if (entry.isIntersecting && stale.has(id)) draw(id);
    }
  }, { rootMargin: "200px" });
  function redraw() { for (const id of ids) { stale.add(id); if (visible.has(id)) draw(id); } }

  function refresh() {
    chosen = pairs.filter((d) => (withBelow || !d.below) && passes(d));
    $$("tbody tr, .worst > li, .answer").forEach((row) => {
      row.hidden = Object.keys(FILTERS).some((name) => row.dataset[name] !== undefined && off[name].has(row.dataset[name]));
    });
    $$(".sheet").forEach((sheet) => { const all = $$("tbody tr", sheet), shown = all.filter((r) => !r.hidden).length; $(".count", sheet).textContent = shown === all.length ? `${all.length} rows` : `${shown} of ${all.length} rows`; });
    const error = d3.mean(chosen, (d) => Math.abs(d.predicted / d.measured - 1)), known = chosen.filter((d) => d.refined !== null);
    $("#selection").textContent = chosen.length ? `${chosen.length} of ${data.pairs.of} pairs: predicted ${number(geomean(chosen.map((d) => d.predicted)))}, measured ${number(geomean(chosen.map((d) => d.measured)))}, parity ${number(geomean(chosen.map((d) => d.parity)))} (geometric means); MAPE ${percent(error)} plain${known.length ? `, ${percent(d3.mean(known, (d) => Math.abs(d.refined / d.measured - 1)))} refined` : ""}.` : "No pair is selected.";
    const hidden = d3.sum(Object.values(off), (set) => set.size);
    $("#chosen").textContent = hidden ? `(${hidden} left out)` : "";
    const present = new Set(chosen.map((d) => d.kernel)), form = new Map(pairs.map((d) => [d.kernel, d.format]));
    $("#legend").replaceChildren(...kernels.filter((k) => present.has(k)).map((k) => {
      const item = make("li");
      const mark = { circle: d3.symbolCircle, square: d3.symbolSquare, triangle: d3.symbolTriangle }[symbol(form.get(k))] || d3.symbolCross;
      const svg = d3.create("svg").attr("width", 14).attr("height", 14).attr("viewBox", "-7 -7 14 14").attr("aria-hidden", "true");
      svg.append("path").attr("d", d3.symbol(mark, 60)()).attr("fill", colour(k));
      item.append(svg.node(), document.createTextNode(k));
      return item;
    }));
    const shapes = d3.sort(new Set(chosen.map((d) => d.shape))), select = $("#shape"), was = select.value;
    select.replaceChildren(make("option", "all in the selection", { value: "" }), ...shapes.map((s) => make("option", s, { value: s })));
    select.value = shapes.includes(was) ? was : "";
    redraw();
  }

  // --- controls -------------------------------------------------------------------------------------------------
  function filters() {
    const form = $("#filters form");
    for (const [name, title] of Object.entries(FILTERS)) {
      const values = text[name].names;
      if (values.length < 2) continue;
      const set = make("fieldset");
      set.append(make("legend", title));
      for (const value of values) {
        const label = make("label"), box = make("input", undefined, { type: "checkbox", name });
        box.checked = true;
        box.value = value;
        box.addEventListener("change", () => { if (box.checked) off[name].delete(value); else off[name].add(value); refresh(); });
        label.append(box, document.createTextNode(value || "none"));
        set.append(label);
      }
      form.append(set);
    }
    const label = make("label"), box = make("input", undefined, { type: "checkbox", name: "below" });
    box.addEventListener("change", () => { withBelow = box.checked; refresh(); });
    label.append(box, document.createTextNode("draw pairs below the launch floor (hollow)"));
    const again = make("button", "Show all", { type: "button" });
    again.addEventListener("click", () => { for (const set of Object.values(off)) set.clear(); $$("input", form).forEach((i) => { i.checked = i.name !== "below"; }); withBelow = false; refresh(); });
    form.append(label, again);
    form.addEventListener("submit", (event) => event.preventDefault());
  }
  function sorting() {
    $$("thead button").forEach((button) => button.addEventListener("click", () => {
      const head = button.closest("th"), table = head.closest("table"), at = [...head.parentNode.children].indexOf(head);
      const up = head.getAttribute("aria-sort") !== "ascending";
      $$("th", table).forEach((th) => th.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const numeric = head.classList.contains("n"), body = table.tBodies[0];
      const key = (row) => { const cell = row.cells[at]; return numeric ? (cell.dataset.v === "" ? null : +cell.dataset.v) : cell.textContent; };
      const order = (a, b) => (a === null) - (b === null) || (a === null ? 0 : (up ? 1 : -1) * (numeric ? a - b : a.localeCompare(b, "en", { numeric: true })));
      body.append(...[...body.rows].map((row) => [key(row), row]).sort((a, b) => order(a[0], b[0])).map(([, row]) => row));
    }));
  }
  function theme() {
    const button = $("#theme");
    const show = () => { button.textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-pressed", String(dark())); };
    button.addEventListener("click", () => { document.documentElement.dataset.theme = dark() ? "light" : "dark"; show(); refresh(); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { show(); refresh(); });
    show();
  }
  filters();
  sorting();
  theme();
  if ($("#network")) {
    const names = [...new Set(data.networks.map(netName))];
    $("#network").replaceChildren(...names.map((n) => make("option", n, { value: n })));
    $("#network").value = names.find((n) => n.includes("batch 32")) || names[0];
    $("#network").addEventListener("change", () => draw("networks"));
  }
  $("#shape").addEventListener("change", () => draw("sparsity"));
  let width = innerWidth, timer;
  addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(() => { if (innerWidth !== width) { width = innerWidth; redraw(); } }, 150); });
  // Folded parts stay folded on paper: a reader prints what is open, and every plot.
  addEventListener("beforeprint", () => ids.forEach(draw));
  addEventListener("afterprint", redraw);
  refresh();
  ids.forEach((id) => watcher.observe($(`#plot-${id}`)));
  document.documentElement.dataset.ready = "true";
})();
