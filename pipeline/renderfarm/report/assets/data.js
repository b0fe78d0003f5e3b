// What the page knows: the summary, lines by position, records on demand, and the search over the lines.
// Chunks are scripts, because a page opened from disk may load scripts but may not fetch.
"use strict";
globalThis.renderfarm = (() => {
  const meta = JSON.parse(document.getElementById("meta").textContent);
  const LINE = Object.fromEntries(meta.line.map((name, place) => [name, place]));
  const STATES = ["accepted", "exhausted", "failed", "remaining"];
  const RECORD_CHUNKS_KEPT = 12;
  const FRAME_MS = 12;

  const arrived = new Map();
  const loading = new Map();

  // Called by every chunk.
  function chunk(kind, number, build, payload) {
    arrived.set(`${kind}-${number}`, { build, payload });
  }

  function load(kind, number) {
    const name = `${kind}-${number}`;
    if (loading.has(name)) return loading.get(name);
    const file = `${kind}-${String(number).padStart(4, "0")}.js`;
    const promise = new Promise((resolve, reject) => {
      const script = document.createElement("script");
      const fail = (why) => { loading.delete(name); reject(new Error(`report/${file} ${why}`)); };
      script.onerror = () => { script.remove(); fail("could not be read. Write the report again: renderfarm report OUTPUT"); };
      script.onload = () => {
        script.remove();
        const found = arrived.get(name);
        arrived.delete(name);
        if (!found) fail("is damaged. Write the report again: renderfarm report OUTPUT");
        else if (found.build !== meta.build) fail("belongs to another version of this report. Reload the page; if that does not help, writing it was cut off: renderfarm report OUTPUT");
        else resolve(found.payload);
      };
      script.src = `${file}?build=${meta.build}`;
      document.head.append(script);
    });
    loading.set(name, promise);
    if (kind === "data") forgetOldRecords();
    return promise;
  }

  function forgetOldRecords() {
    const held = [...loading.keys()].filter((name) => name.startsWith("data-"));
    for (const name of held.slice(0, Math.max(0, held.length - RECORD_CHUNKS_KEPT))) loading.delete(name);
  }

  async function line(position) {
    const lines = await load("index", Math.floor(position / meta.lines_per_chunk));
    return lines[position % meta.lines_per_chunk];
  }

  // The attempts of one image, oldest first: [{record, picture, thumb}].
  async function attempts(position) {
    const { base, images } = await load("data", Math.floor(position / meta.images_per_chunk));
    return images[position % meta.images_per_chunk].map(({ r, links }) => {
      const record = {};
      for (const field of meta.fields) {
        const value = Object.hasOwn(r, field) ? r[field] : base[field];
        if (value !== undefined && value !== null) record[field] = value;
      }
      return { record, picture: links[0], thumb: links[1] };
    });
  }

  const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const haystacks = new WeakMap();

  // Built when a chunk is first searched; one string a line.
  function haystack(lines) {
    if (!haystacks.has(lines)) {
      haystacks.set(lines, lines.map((one) => fold([
        one[LINE.row_id], one[LINE.image_id], one[LINE.prompt], one[LINE.text],
        ...one[LINE.tags].map(([key, value]) => `${key}:${value}`), ...one[LINE.reasons],
      ].join("\n"))));
    }
    return haystacks.get(lines);
  }

  // Words are all wanted, in any order; "in quotes" as they stand.
  function terms(query) {
    return [...fold(query).matchAll(/"([^"]+)"?|(\S+)/g)].map((found) => found[1] ?? found[2]).filter((term) => term !== '"');
  }

  const isFiltered = (view) => Boolean(view.q.trim() || view.state || view.check || view.tags.length);

  function accepts(view) {
    const wanted = terms(view.q);
    const outcomes = meta.outcomes.length;
    const flagged = meta.outcomes.indexOf("flagged");
    const [checkName, outcomeName] = view.check ? view.check.split(/:(?=[^:]*$)/) : [];
    const outcome = meta.outcomes.indexOf(outcomeName);
    const check = meta.filters.checks.findIndex(([name]) => name === checkName);
    const marked = (marks) => marks.some((mark) =>
      mark % outcomes === outcome && (checkName === "" || Math.floor(mark / outcomes) === check));
    const inState = (one) => {
      if (view.state === "flagged") return one[LINE.marks].some((mark) => mark % outcomes === flagged);
      return !view.state || view.state === "superseded" || STATES[one[LINE.state]] === view.state;
    };
    return (one, text) =>
      inState(one) && (!view.check || marked(one[LINE.marks])) &&
      view.tags.every(([key, value]) => one[LINE.tags].some((tag) => tag[0] === key && tag[1] === value)) &&
      wanted.every((term) => text.includes(term));
  }

  // Positions of the current plan's images come first, superseded ones after them.
  const range = (view) => view.state === "superseded" ? [meta.current, meta.images] : [0, meta.current];

  // Calls `report(hits, isDone, searched)` as hits come in; stops when `isCurrent()` turns false. Gives the browser its frames.
  async function find(view, isCurrent, report) {
    const [from, to] = range(view);
    const accept = accepts(view);
    const needsText = Boolean(view.q.trim());
    const hits = [];
    let rested = performance.now();
    for (let number = Math.floor(from / meta.lines_per_chunk); number * meta.lines_per_chunk < to; number += 1) {
      const lines = await load("index", number);
      if (!isCurrent()) return;
      const texts = needsText ? haystack(lines) : null;
      const first = number * meta.lines_per_chunk;
      for (let place = Math.max(0, from - first); place < Math.min(lines.length, to - first); place += 1) {
        if (accept(lines[place], texts ? texts[place] : "")) hits.push(first + place);
      }
      if (performance.now() - rested > FRAME_MS) {
        report(hits, false, first + lines.length);
        await new Promise((resolve) => setTimeout(resolve));
        if (!isCurrent()) return;
        rested = performance.now();
      }
    }
    report(hits, true, to);
  }

  return { meta, LINE, STATES, chunk, line, attempts, find, range, isFiltered };
})();
