"use strict";
(() => {
  const meta = JSON.parse(document.getElementById("meta").textContent);
  const AT = Object.fromEntries(meta.fields.map((name, place) => [name, place]));
  const HEIGHT = 36;
  const EXTRA = 8;
  const FRAME_MS = 12;
  const byId = (id) => document.getElementById(id);
  const blocks = [...document.querySelectorAll("script.rows")];
  const parsed = new Map();
  let shown = null; // positions that are found, or null for all
  let active = 0;
  let search = 0;

  function el(name, fields = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(fields)) key in node ? (node[key] = value) : node.setAttribute(key, value);
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  function block(number) {
    if (!parsed.has(number)) {
      if (parsed.size > 20) parsed.delete(parsed.keys().next().value);
      parsed.set(number, JSON.parse(blocks[number].textContent));
    }
    return parsed.get(number);
  }

  const line = (position) => block(Math.floor(position / meta.block))[position % meta.block];
  const total = () => (shown ? shown.length : meta.rows);
  const at = (place) => (shown ? shown[place] : place);
  const lettering = (one) => one[AT.lettering] === null ? "not said" : one[AT.lettering] === "" ? "none" : `“${one[AT.lettering]}”`;
  const tokens = (one) => one[AT.tokens_max] ? `${one[AT.tokens]} of ${one[AT.tokens_max]}` : "";

  const COLUMNS = [
    ["Row", (one) => one[AT.row]], ["Id", (one) => one[AT.row_id]], ["Prompt", (one) => one[AT.prompt]], ["Size", (one) => one[AT.size]],
    ["Images", (one) => one[AT.images]], ["Lettering", lettering], ["Objects", (one) => one[AT.objects]], ["Tokens", tokens],
    ["Warnings", (one) => one[AT.warnings].length || ""],
  ];

  function draw() {
    const grid = byId("grid");
    const first = Math.max(0, Math.floor(grid.scrollTop / HEIGHT) - EXTRA);
    const last = Math.min(total(), Math.ceil((grid.scrollTop + grid.clientHeight) / HEIGHT) + EXTRA);
    const rows = [];
    for (let place = first; place < last; place += 1) {
      const one = line(at(place));
      const row = el("div", { role: "row", id: `row-${place}`, ariaRowIndex: String(place + 1), ariaSelected: String(place === active) },
        ...COLUMNS.map(([name, value]) => el("span", { role: "gridcell", dir: "auto", className: name === "Warnings" ? "warned" : "" }, String(value(one)))));
      row.dataset.place = place;
      rows.push(row);
    }
    byId("space").style.height = `${total() * HEIGHT}px`;
    byId("window").style.transform = `translateY(${first * HEIGHT}px)`;
    byId("window").replaceChildren(...rows);
    grid.setAttribute("aria-rowcount", total());
    grid.setAttribute("aria-activedescendant", `row-${active}`);
  }

  function move(place) {
    if (!total()) return;
    active = Math.max(0, Math.min(total() - 1, place));
    const grid = byId("grid");
    const top = active * HEIGHT;
    if (top < grid.scrollTop) grid.scrollTop = top;
    else if (top + 2 * HEIGHT > grid.scrollTop + grid.clientHeight) grid.scrollTop = top + 2 * HEIGHT - grid.clientHeight;
    draw();
    if (!byId("detail").hidden) open();
  }

  function open() {
    if (!total()) return;
    const one = line(at(active));
    const facts = [
      ["Id", one[AT.row_id]], ["Prompt", one[AT.prompt]], ["Size", one[AT.size]], ["Images", one[AT.images]], ["Seed", one[AT.seed]],
      ["Adapters", one[AT.adapter]], ["Lettering", lettering(one)], ["Read from", one[AT.read_from]], ["Objects", one[AT.objects]],
      ["Tokens", tokens(one)], ["Checks", one[AT.checks].join(", ")],
      ["Not checked", one[AT.unchecked].map(([name, why]) => `${name}: ${why}`).join("\n")],
      ["Tags", one[AT.tags].map(([name, value]) => `${name}: ${value}`).join("\n")], ["Warnings", one[AT.warnings].join("\n")],
    ];
    const list = el("dl", {}, ...facts.filter(([, value]) => value !== "").flatMap(([name, value]) =>
      [el("dt", {}, name), el("dd", { dir: "auto", className: name === "Warnings" ? "warned" : "" }, String(value))]));
    byId("detail").replaceChildren(el("strong", {}, `${meta.unit} ${one[AT.row]}`), list);
    byId("detail").hidden = false;
  }

  const KINDS = {
    all: () => true,
    warned: (one) => one[AT.warnings].length > 0,
    lettered: (one) => Boolean(one[AT.lettering]),
    unlettered: (one) => !one[AT.lettering],
  };

  // Looks through all rows and gives the browser its frames; a newer search ends an older one.
  async function find() {
    const current = (search += 1);
    const words = byId("query").value.toLowerCase().split(/\s+/).filter(Boolean);
    const kind = KINDS[byId("show").value];
    const hits = [];
    let rested = performance.now();
    if (!words.length && byId("show").value === "all") shown = null;
    else {
      for (let position = 0; position < meta.rows; position += 1) {
        const one = line(position);
        if (kind(one) && (!words.length || words.every((word) => text(one).includes(word)))) hits.push(position);
        if (performance.now() - rested > FRAME_MS) {
          await new Promise((resolve) => setTimeout(resolve));
          if (current !== search) return;
          rested = performance.now();
        }
      }
      shown = hits;
    }
    byId("found").textContent = `${total().toLocaleString("en")} of ${meta.rows.toLocaleString("en")} rows`;
    active = 0;
    byId("grid").scrollTop = 0;
    draw();
  }

  const text = (one) => [one[AT.row_id], one[AT.prompt], one[AT.lettering] ?? "", one[AT.objects], one[AT.adapter],
    ...one[AT.tags].map(([name, value]) => `${name}:${value}`), ...one[AT.warnings]].join("\n").toLowerCase();

  function about() {
    byId("title").textContent = `${meta.job}: ${meta.source}`;
    byId("totals").textContent = meta.totals.join(" · ");
    const lists = [["Checks", meta.checks], ["By campaign", meta.campaigns], ["By size", meta.sizes], ["How the source was read", meta.notes],
      ["Warnings about the source", meta.warnings ?? []],
      ["Faults: these rows cannot be rendered", meta.faults]];
    byId("facts").replaceChildren(...lists.filter(([, items]) => items.length).flatMap(([name, items]) =>
      [el("h2", {}, name), el("ul", {}, ...items.map((item) => el("li", { dir: "auto" }, item)))]));
    byId("head").replaceChildren(...COLUMNS.map(([name]) => el("span", { role: "columnheader" }, name)));
  }

  const KEYS = {
    ArrowDown: () => move(active + 1), ArrowUp: () => move(active - 1), Home: () => move(0), End: () => move(total() - 1),
    PageDown: () => move(active + page()), PageUp: () => move(active - page()), Enter: open,
  };
  const page = () => Math.max(1, Math.floor(byId("grid").clientHeight / HEIGHT) - 2);

  byId("grid").addEventListener("scroll", () => requestAnimationFrame(draw));
  byId("grid").addEventListener("keydown", (event) => {
    if (!KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  byId("window").addEventListener("click", (event) => {
    const row = event.target.closest("[data-place]");
    if (row) { active = Number(row.dataset.place); draw(); open(); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { byId("detail").hidden = true; byId("grid").focus(); }
    if (event.key === "/" && document.activeElement !== byId("query")) { event.preventDefault(); byId("query").focus(); }
  });
  byId("find").addEventListener("submit", (event) => { event.preventDefault(); byId("grid").focus(); });
  byId("query").addEventListener("input", find);
  byId("show").addEventListener("change", find);
  window.addEventListener("resize", draw);
  about();
  find();
  document.documentElement.dataset.ready = "yes";
})();
