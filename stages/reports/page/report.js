"use strict";
// The rows of the page: filters over a small index; texts are unpacked a chunk at a time, when they are shown
// or searched. All text enters the page through textContent.
(async () => {
  const PAGE = 40, KEPT = 24, FEW = 100;
  const $ = (id) => document.getElementById(id);
  const form = $("filters"), list = $("list"), more = $("more"), found = $("found");
  const FILTERS = ["run", "round", "stage", "outcome", "reason", "flip"];
  const GOOD = new Set(["published", "right", "paired", "labelled", "won"]), BAD = new Set(["dropped", "failed", "wrong", "lost"]);

  async function unpack(id) {
    const bytes = Uint8Array.from(atob($(id).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  const chunks = new Map(); // number -> promise, the last used at the end
  function chunk(n) {
    const known = chunks.get(n) || unpack("chunk-" + n);
    chunks.delete(n);
    chunks.set(n, known);
    if (chunks.size > KEPT) chunks.delete(chunks.keys().next().value);
    return known;
  }

  function element(tag, cls, text) {
    const made = document.createElement(tag);
    if (cls) made.className = cls;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  const index = await unpack("index");
  const columns = index.columns, values = index.values, size = columns.run.length;
  const named = (column, i) => values[column][columns[column][i]];
  const title = (round) => (round === "base" ? "base model" : "round " + round);
  const words = (name) => String(name).replaceAll("_", " ");

  // The filters: a select for each column that has more than one value.
  function fill() {
    for (const name of FILTERS) {
      const select = form.elements[name];
      const shown = values[name].filter((v) => v !== "");
      if (name === "flip") select.append(new Option("won or lost", "any"));
      for (const v of name === "reason" ? [...shown].sort() : shown) {
        const text = name === "run" ? index.runs[v] : name === "round" ? title(v) : words(v);
        select.append(new Option(text, v));
      }
      select.parentElement.hidden = shown.length < (name === "flip" || name === "reason" ? 1 : 2);
    }
    form.hidden = size === 0;
  }

  function chosen() {
    const wanted = FILTERS.map((name) => [columns[name], wantedIn(name)]).filter(([, set]) => set);
    const rows = [];
    for (let i = 0; i < size; i++) if (wanted.every(([column, set]) => set.has(column[i]))) rows.push(i);
    return rows;
  }

  function wantedIn(name) {
    const value = form.elements[name].value;
    if (value === "") return null;
    const places = values[name].flatMap((v, i) => ((value === "any" ? v !== "" : String(v) === value) ? [i] : []));
    return new Set(places);
  }

  async function holds(rows, query, still) {
    // A text of the pool is looked through once per chunk, however many rows share it.
    const hits = [];
    let at = -1, data = null, texts = null;
    for (const i of rows) {
      const n = Math.floor(i / index.chunk);
      if (n !== at) {
        data = await chunk(n);
        if (!still()) return null;
        at = n;
        texts = data.pool.map((v) => (typeof v === "string" ? v : JSON.stringify(v)).toLowerCase().includes(query));
        found.textContent = `Searching: ${hits.length.toLocaleString("en")} found so far …`;
      }
      const [, way, [detail, raw]] = data.rows[i % index.chunk];
      const hit = texts[raw] || texts[detail] ||
        way.some(([, id, told, fields]) => id.startsWith(query) || told.toLowerCase().includes(query) || fields.some(([, v]) => texts[v]));
      if (hit) hits.push(i);
    }
    return hits;
  }

  let turn = 0, shownRows = [], next = 0;
  async function update() {
    const mine = ++turn, query = form.elements.q.value.trim().toLowerCase();
    remember();
    let rows = chosen();
    if (query) rows = await holds(rows, query, () => mine === turn);
    if (mine !== turn || !rows) return;
    shownRows = rows;
    next = 0;
    list.replaceChildren();
    found.textContent = `${rows.length.toLocaleString("en")} of ${size.toLocaleString("en")} rows` + (rows.length < totalOf() && !query ? `, taken from ${totalOf().toLocaleString("en")}` : "");
    await page(mine);
  }

  function totalOf() {
    const wanted = FILTERS.map((name) => form.elements[name].value);
    let sum = 0;
    for (const row of index.totals)
      if (wanted.every((w, k) => w === "" || (w === "any" ? row[k] !== "" : String(row[k]) === w))) sum += row[6];
    return sum;
  }

  async function page(mine) {
    const some = shownRows.slice(next, next + PAGE);
    next += some.length;
    const made = [];
    for (const i of some) {
      const data = await chunk(Math.floor(i / index.chunk));
      if (mine !== turn) return;
      made.push(summary(i, data));
    }
    list.append(...made);
    more.hidden = next >= shownRows.length;
  }

  function summary(i, data) {
    const [[question, said]] = data.rows[i % index.chunk];
    const row = element("details", "row"), head = element("summary"), chips = element("span", "chips");
    const outcome = named("outcome", i), flip = named("flip", i), reason = named("reason", i);
    const tone = GOOD.has(outcome) ? "good" : BAD.has(outcome) ? "bad" : "even";
    chips.append(element("span", "chip " + tone, reason && outcome !== "wrong" && outcome !== "right" ? words(reason) : outcome));
    if (flip) chips.append(element("span", "chip " + (GOOD.has(flip) ? "good" : "bad"), flip));
    chips.append(element("span", "", `${title(named("round", i))}, ${named("stage", i)}`));
    if (index.runs.length > 1) chips.append(element("span", "", index.runs[named("run", i)]));
    head.append(chips, line(question || "(no question)"), line(said));
    row.append(head);
    row.addEventListener("toggle", () => { if (row.open && row.children.length === 1) row.append(way(i, data)); });
    return row;
  }

  function line(text) {
    const made = element("span", "line", text);
    made.dir = "auto";
    return made;
  }

  function way(i, data) {
    const [, steps, [detail, raw]] = data.rows[i % index.chunk];
    const made = element("ol", "way");
    let judged = [], leaves = [];
    for (const [, , , fields] of steps) for (const [name, v] of fields) {
      if (name === "judge" && Array.isArray(data.pool[v])) judged = data.pool[v];
      if (name === "leaves" && Array.isArray(data.pool[v])) leaves = data.pool[v];
    }
    const marks = { bad: new Set(judged.filter((j) => j && j.judgement === "bad").map((j) => j.node)), leaves };
    for (const [stage, id, told, fields] of steps) {
      const item = element("li"), head = element("h4", "", stage);
      head.append(element("small", "", [told, id].filter(Boolean).join(" · ")));
      item.append(head);
      for (const [name, v] of fields) item.append(field(name, data.pool[v], marks));
      made.append(item);
    }
    const outcome = named("outcome", i), reason = named("reason", i);
    const end = element("li", GOOD.has(outcome) ? "good" : BAD.has(outcome) ? "bad" : "");
    end.append(element("h4", GOOD.has(outcome) ? "yes" : BAD.has(outcome) ? "no" : "", `${named("stage", i)}: ${outcome}${reason ? ", " + words(reason) : ""}`));
    if (data.pool[detail]) end.append(block("", data.pool[detail]));
    if (data.pool[raw]) end.append(block("raw reply", data.pool[raw]));
    const id = steps[steps.length - 1][1];
    if (named("round", i) !== "base") end.append(element("p", "caption", `With its prompts: selfloop trace --run ${index.roots[named("run", i)]} ${id}`));
    made.append(end);
    return made;
  }

  // A value of a payload: short ones in a line, texts as blocks, messages with their roles, the rest nested.
  function field(name, value, marks) {
    if (value && value.nodes) return tree(name, value, marks);
    const plain = (v) => v === null || typeof v !== "object";
    if (Array.isArray(value) && value.every((v) => plain(v) && String(v).length < 60 && !String(v).includes("\n")))
      return field(name, value.map((v) => (v === null ? "–" : v)).join(", "), marks);
    if (Array.isArray(value)) return nested(name, value.map((v, k) => field(v && v.role ? v.role : value.length > 1 ? `${k + 1}` : "", v && v.role && v.content !== undefined && Object.keys(v).length === 2 ? v.content : v, marks)));
    if (value && typeof value === "object") return nested(name, Object.entries(value).filter(([, v]) => v !== null && v !== "" && !(typeof v === "object" && !Object.keys(v).length)).map(([k, v]) => field(k, v, marks)));
    const text = String(value);
    if (text.length > FEW || text.includes("\n")) return block(name, text);
    const made = element("div", "inline");
    if (name) made.append(element("span", "field", words(name)));
    const shown = element("span", value === true ? "yes" : value === false ? "no" : "", value === true ? "yes" : value === false ? "no" : text);
    shown.dir = "auto";
    made.append(shown);
    return made;
  }

  function block(name, text) {
    const made = element("div"), body = element("div", "block", text);
    body.dir = "auto";
    if (name) made.append(element("span", "field", words(name)));
    made.append(body);
    return made;
  }

  function nested(name, items) {
    const made = element("div"), inner = element("div", "nested");
    if (name) made.append(element("span", "field", words(name)));
    inner.append(...items);
    made.append(inner);
    return made;
  }

  function tree(name, value, marks) {
    const below = new Map(), made = element("div");
    for (const node of value.nodes) below.set(node[1], [...(below.get(node[1]) || []), node]);
    const known = new Set(value.nodes.map((n) => n[0]));
    const root = value.nodes[0], top = element("ul", "tree");
    const stack = [[top, root]];
    while (stack.length) {
      const [parent, [id, , action, seen, visits, mean, reward, end]] = stack.pop();
      const item = element("li"), bad = marks.bad.has(id);
      item.append(element("span", "act" + (bad ? " no" : ""), action || (id === root[0] ? "start" : "(no action)")));
      item.append(element("span", "num", `visits ${visits}` + (mean === null ? "" : `, value ${mean.toFixed(2)}`)));
      if (end) item.append(element("span", "num " + (reward >= 1 ? "yes" : ""), `${end}, reward ${reward}`));
      if (bad) item.append(element("span", "num no", "judged bad"));
      if (marks.leaves.includes(id)) item.append(element("span", "num yes", marks.leaves.length > 1 ? (marks.leaves[0] === id ? "good leaf of this pair" : "bad leaf of this pair") : "the leaf of this row"));
      const what = element("span", "seen", seen);
      what.dir = "auto";
      item.append(what);
      parent.append(item);
      const children = (below.get(id) || []).filter((c) => c[0] !== id && known.has(c[0]));
      const grown = children.filter((c) => c[4] || below.has(c[0]) || marks.leaves.includes(c[0]));
      if (children.length) {
        const inner = element("ul");
        item.append(inner);
        for (const child of [...grown].reverse()) stack.push([inner, child]);
        if (children.length > grown.length) item.append(element("span", "seen", `${children.length - grown.length} more, not expanded`));
      }
    }
    made.append(element("span", "field", `${words(name)}: ${value.of} nodes${value.of > value.nodes.length ? `, the first ${value.nodes.length} shown` : ""}`), top);
    return made;
  }

  // The filters are kept in the address, so that links inside of the page and reloads find them again.
  function remember() {
    const given = new URLSearchParams();
    for (const name of ["q", ...FILTERS]) if (form.elements[name].value) given.set(name, form.elements[name].value);
    if (location.hash.startsWith("#samples") || [...given].length)
      history.replaceState(null, "", "#samples" + ([...given].length ? "?" + given : ""));
  }

  function recall(scroll) {
    if (!location.hash.startsWith("#samples?")) return false;
    const given = new URLSearchParams(location.hash.slice("#samples?".length));
    for (const name of ["q", ...FILTERS]) {
      const wanted = given.get(name) || "", control = form.elements[name];
      control.value = wanted;
      if (control.value !== wanted) control.value = "";
    }
    if (scroll) $("samples").scrollIntoView();
    return true;
  }

  let waiting = 0;
  form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(update, 150); });
  form.addEventListener("reset", () => setTimeout(update));
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => page(turn));
  addEventListener("hashchange", () => { if (recall(true)) update(); else reveal(); });

  function reveal() { // a link into a folded run unfolds it
    const target = location.hash.length > 1 && $(decodeURIComponent(location.hash.slice(1)));
    const around = target && target.closest("details.run");
    if (around && !around.open) { around.open = true; target.scrollIntoView(); }
  }

  fill();
  recall(true);
  reveal();
  await update();
  document.documentElement.dataset.ready = "yes";

  const version = document.querySelector("meta[name=version]");
  if (version) setInterval(async () => {
    const answer = await fetch("version", { cache: "no-store" }).catch(() => null);
    if (!answer || !answer.ok || (await answer.text()) === version.content) return;
    if (!document.querySelector(".row[open]") && document.activeElement === document.body) return location.reload();
    if (document.querySelector(".fresh")) return;
    const button = element("button", "fresh", "The run has gone on: reload");
    button.addEventListener("click", () => location.reload());
    document.body.append(button);
  }, 3000);
})();
