// The page's state is its address: every change writes the part behind `#`, and the page is drawn from there.
"use strict";
(() => {
  const { meta, LINE, byId } = renderfarm;
  const PAGE_SIZES = { s: 240, m: 120, l: 60 };
  const START = { q: "", state: "", check: "", tags: [], page: 1, size: "m", image: "", attempt: 0 };
  const TYPING_MS = 120;
  let view = { ...START };
  let hits = null; // positions found; null: every image of the plan
  let opened = null; // { position, chosen, attempts }
  let heading = 0; // the position that is open, or about to be
  let turn = 0;
  let round = 0;
  let typing = 0;

  function readAddress() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const tags = asked.getAll("tag").map((pair) => {
      const cut = pair.indexOf("=");
      return [pair.slice(0, cut), pair.slice(cut + 1)];
    });
    const size = asked.get("size");
    return {
      q: asked.get("q") ?? "", state: asked.get("state") ?? "", check: asked.get("check") ?? "", tags,
      page: Math.max(1, Math.floor(Number(asked.get("page"))) || 1), size: Object.hasOwn(PAGE_SIZES, size ?? "") ? size : START.size,
      image: asked.get("image") ?? "", attempt: Math.floor(Number(asked.get("attempt"))) || 0,
    };
  }

  function address(of) {
    const parts = new URLSearchParams();
    for (const name of ["q", "state", "check", "page", "size", "image", "attempt"]) {
      if (of[name] !== START[name]) parts.set(name, of[name]);
    }
    for (const [key, value] of of.tags) parts.append("tag", `${key}=${value}`);
    return `#${parts}`;
  }

  function writeAddress(isStep) {
    const target = address(view);
    if (target === (location.hash || "#")) return;
    if (isStep) history.pushState(null, "", target);
    else history.replaceState(null, "", target);
  }

  function trouble(error) {
    byId("trouble").hidden = !error;
    byId("trouble").textContent = error ? error.message : "";
    if (error) document.documentElement.dataset.ready = "failed";
  }

  const count = () => hits ? hits.length : meta.current;
  const at = (place) => hits ? hits[place] : place;
  const pages = () => Math.max(1, Math.ceil(count() / PAGE_SIZES[view.size]));

  async function drawPage(mine) {
    const size = PAGE_SIZES[view.size];
    const first = (Math.min(view.page, pages()) - 1) * size;
    const places = Array.from({ length: Math.max(0, Math.min(size, count() - first)) }, (_, offset) => at(first + offset));
    const lines = await Promise.all(places.map((position) => renderfarm.line(position)));
    if (mine !== round) return;
    renderfarm.drawGrid(places.map((position, place) => renderfarm.card(position, lines[place])));
    renderfarm.drawPagers(Math.min(view.page, pages()), pages());
  }

  // Draws the sheet for `view`: at once where no filter is set, else while the hits come in.
  async function drawSheet() {
    const mine = ++round;
    document.documentElement.dataset.ready = "";
    renderfarm.drawChoices(view);
    trouble(null);
    try {
      if (!renderfarm.isFiltered(view)) {
        hits = null;
        renderfarm.drawFound(view, count(), true, count());
        await drawPage(mine);
      } else {
        await search(mine);
      }
      if (mine === round) document.documentElement.dataset.ready = "true";
    } catch (error) {
      if (mine === round) trouble(error);
    }
  }

  async function search(mine) {
    let drawn = 0;
    let drawing = Promise.resolve();
    await renderfarm.find(view, () => mine === round, (found, isDone, searched) => {
      hits = found;
      renderfarm.drawFound(view, found.length, isDone, searched);
      const needed = Math.min(found.length, view.page * PAGE_SIZES[view.size]);
      if (isDone || needed > drawn) {
        drawn = needed;
        drawing = drawPage(mine);
      }
    });
    await drawing;
  }

  function go(change, { samePage = false, top = false, isStep = true } = {}) {
    view = { ...view, ...change };
    if (!samePage) view.page = 1;
    view.page = Math.max(1, view.page);
    writeAddress(isStep);
    if (top) byId("tools").scrollIntoView({ block: "start" });
    return drawSheet();
  }

  const addTag = (key, value) => go({ tags: [...view.tags.filter(([k, v]) => k !== key || v !== value), [key, value]] });
  const removeTag = (key, value) => go({ tags: view.tags.filter(([k, v]) => k !== key || v !== value) });

  // A later open, or a close, overtakes one whose records are still on their way. The dialog's close event comes late,
  // so a step asks the dialog itself.
  async function open(position, attempt = 0, isStep = false) {
    const mine = ++turn;
    heading = position;
    try {
      const [line, attempts] = await Promise.all([renderfarm.line(position), renderfarm.attempts(position)]);
      if (mine !== turn || (isStep && !byId("detail").open)) return;
      const asked = attempts.findIndex(({ record }) => record.attempt === attempt);
      const accepted = attempts.findIndex(({ record }) => record.outcome === "accepted");
      opened = { position, line, attempts, chosen: asked >= 0 ? asked : accepted >= 0 ? accepted : attempts.length - 1 };
      drawOpened();
    } catch (error) {
      if (mine === turn) trouble(error);
    }
  }

  function drawOpened() {
    const { position, line, attempts, chosen } = opened;
    view.image = line[LINE.image_id] || `@${position}`;
    view.attempt = attempts.length > 1 ? attempts[chosen].record.attempt ?? 0 : 0;
    writeAddress(false);
    const place = hits ? hits.indexOf(position) : position < meta.current ? position : -1;
    renderfarm.drawDetail({ line, attempts, chosen, view, where: { place, count: place < 0 ? 0 : count() }, choose });
  }

  function choose(chosen) {
    if (!opened || !opened.attempts[chosen]) return;
    opened.chosen = chosen;
    drawOpened();
  }

  function step(by) {
    if (!opened) return;
    const place = (hits ? hits.indexOf(heading) : heading) + by;
    if (place < 0 || place >= count()) return;
    const page = Math.floor(place / PAGE_SIZES[view.size]) + 1;
    const isTurned = page !== view.page;
    view.page = page;
    if (isTurned) drawPage(round).catch(trouble);
    open(at(place), 0, true);
  }

  function close() {
    byId("detail").close();
  }

  function closed() {
    if (!opened) return;
    const { position } = opened;
    opened = null;
    turn += 1;
    view.image = "";
    view.attempt = 0;
    writeAddress(false);
    byId("detail").replaceChildren();
    byId("grid").querySelector(`[data-position="${position}"]`)?.focus();
  }

  // An address may name an image; it is looked for in every line, superseded ones too.
  async function openNamed(id, attempt) {
    if (/^@\d+$/.test(id) && Number(id.slice(1)) < meta.images) return open(Number(id.slice(1)), attempt);
    for (let position = 0; position < meta.images; position += 1) {
      const line = await renderfarm.line(position);
      if (line[LINE.image_id] === id) return open(position, attempt);
    }
    return trouble(new Error(`No image ${id} in this report`));
  }

  async function fromAddress() {
    view = readAddress();
    const { image, attempt } = view;
    await drawSheet();
    if (image) {
      try {
        await openNamed(image, attempt);
      } catch (error) {
        trouble(error);
      }
    } else if (byId("detail").open) {
      close();
    }
  }

  function linkTo(line, record) {
    const image = line[LINE.image_id];
    return location.href.split("#")[0] + address({ ...START, image, attempt: line[LINE.attempts] > 1 ? record.attempt ?? 0 : 0 });
  }

  function moveFocus(key) {
    const cards = [...byId("grid").querySelectorAll(".card")];
    const from = cards.indexOf(document.activeElement);
    if (from < 0) return cards[0] ?? null;
    const row = cards.filter((card) => card.offsetTop === cards[from].offsetTop).length;
    return cards[from + { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row }[key]] ?? null;
  }

  const DETAIL_KEYS = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1),
    ArrowUp: () => choose(opened.chosen - 1), ArrowDown: () => choose(opened.chosen + 1),
    b: () => renderfarm.toggleBoxes(), B: () => renderfarm.toggleBoxes(),
  };

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isTyping = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
    if (opened) {
      const act = DETAIL_KEYS[event.key];
      if (!act || (event.key in { ArrowUp: 0, ArrowDown: 0 } && opened.attempts.length < 2)) return;
      event.preventDefault();
      act();
    } else if (event.key === "/" && !isTyping) {
      event.preventDefault();
      byId("search").select();
    } else if (event.key === "Escape" && event.target === byId("search")) {
      byId("search").blur();
    } else if (event.key.startsWith("Arrow") && !isTyping) {
      const card = moveFocus(event.key);
      if (card) event.preventDefault();
      card?.focus();
    }
  }

  function start() {
    Object.assign(renderfarm, { go, addTag, removeTag, open, step, close, linkTo });
    renderfarm.drawHeader();
    renderfarm.drawTools();
    byId("search").addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => go({ q: byId("search").value }, { isStep: false }), TYPING_MS);
    });
    byId("save").addEventListener("click", () => {
      const all = Array.from({ length: count() }, (_, place) => at(place));
      renderfarm.saveList(all).catch(trouble);
    });
    byId("detail").addEventListener("close", closed);
    byId("detail").addEventListener("click", (event) => { if (event.target === byId("detail")) close(); });
    document.addEventListener("keydown", onKey);
    addEventListener("popstate", fromAddress);
    addEventListener("hashchange", () => { if (address(view) !== (location.hash || "#")) fromAddress(); });
    fromAddress();
  }

  start();
})();
