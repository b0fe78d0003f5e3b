// The sheet: header, filters, pager and cards. Text enters the page as text only, never as markup.
"use strict";
Object.assign(renderfarm, (() => {
  const { meta, LINE, STATES } = renderfarm;
  const LABELS = { accepted: "Accepted", exhausted: "Exhausted", failed: "Failed", remaining: "Remaining", flagged: "Flagged", superseded: "Superseded", rejected: "Rejected", not_run: "Not run" };
  const GLYPHS = { accepted: "✓", exhausted: "✕", failed: "!", remaining: "…", rejected: "✕", flagged: "⚑", not_run: "–" };
  const ANY = { rejected: "Any rejection", flagged: "Any flag", not_run: "Any check not run" };
  const MEANINGS = {
    accepted: "Passed every check and is published", exhausted: "Every allowed attempt was rejected",
    failed: "Could not be rendered", remaining: "Rejected so far, another attempt is due",
    flagged: "Accepted, but a check asks for a look", superseded: "Its row changed or left the manifest",
  };
  const byId = (id) => document.getElementById(id);
  const number = (value) => value.toLocaleString("en-GB");

  // An element from properties, attributes (with a dash, or role) and children; strings become text nodes.
  function el(tag, properties = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name.includes("-") || name === "role") node.setAttribute(name, value);
      else node[name] = value;
    }
    node.append(...children.filter((child) => child !== null && child !== ""));
    return node;
  }

  // Exact to the microsecond, which a Date is not.
  const time = (us) => `${new Date(us / 1000).toISOString().slice(0, 19).replace("T", " ")}.${String(us % 1e6).padStart(6, "0")} UTC`;
  const day = (us) => new Date(us / 1000).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
  const clock = (us) => new Date(us / 1000).toISOString().slice(11, 16);

  function span(startUs, finishUs) {
    const one = startUs || finishUs;
    if (!one) return "";
    if (!startUs || !finishUs) return `${day(one)}, ${clock(one)} UTC`;
    const finish = day(finishUs) === day(startUs) ? clock(finishUs) : `${day(finishUs)}, ${clock(finishUs)}`;
    const minutes = Math.round((finishUs - startUs) / 6e7);
    const took = minutes < 1 ? "under a minute" : minutes < 120 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
    return `${day(startUs)}, ${clock(startUs)} – ${finish} UTC (${took})`;
  }

  const modelName = (model) => [
    model.weights,
    model.weights_revision && model.weights_revision !== model.weights && `@ ${model.weights_revision.slice(0, 12)}`,
    model.device && `on ${model.device}`, model.weights_licence && `(${model.weights_licence})`,
  ].filter(Boolean).join(" ");

  function drawHeader() {
    const { summary } = meta;
    byId("job").textContent = meta.job;
    const rate = summary.rate_per_s;
    const facts = [
      span(summary.started_us, summary.finished_us),
      rate ? (rate >= 0.1 ? `${rate.toFixed(2)} images/s` : `${(rate * 60).toFixed(1)} images/min`) : "",
      `up to ${summary.attempts_limit} ${summary.attempts_limit === 1 ? "attempt" : "attempts"} an image`,
    ].filter(Boolean);
    const models = meta.models.map((model) => el("span", {}, el("b", {}, "Model "), modelName(model),
      meta.models.length > 1 ? `, ${number(model.images)} images` : ""));
    byId("facts").append(...models, el("span", {}, facts.join(" · ")));
    for (const note of new Set(meta.models.map((model) => model.note).filter(Boolean))) {
      byId("model-note").hidden = false;
      byId("model-note").append(el("span", {}, note));
    }
    for (const name of ["planned", ...STATES]) {
      byId("counts").append(el("div", { className: `is-${name}` }, el("dt", {}, name), el("dd", {}, number(summary[name]))));
    }
    const shares = STATES.filter((name) => summary[name] > 0);
    byId("progress").setAttribute("aria-label", shares.map((name) => `${summary[name]} ${name}`).join(", "));
    for (const name of shares) {
      const part = el("span", { className: `is-${name}` });
      part.style.flexGrow = summary[name];
      byId("progress").append(part);
    }
    drawRejects();
    const { plan } = meta;
    byId("plan").textContent = [
      plan.manifest_digest && `manifest ${plan.manifest_digest.slice(0, 16)}`,
      plan.settings_digest && `settings ${plan.settings_digest.slice(0, 16)}`,
      `report ${meta.build}`,
    ].filter(Boolean).join(" · ");
  }

  function drawRejects() {
    const total = meta.rejects.reduce((sum, [, count]) => sum + count, 0);
    if (!total) return;
    const most = meta.rejects[0][1];
    byId("rejects").append(el("span", { className: "label" }, `${number(total)} rejected ${total === 1 ? "attempt" : "attempts"}`));
    for (const [reason, count] of meta.rejects) {
      const bar = el("i", {});
      bar.style.inlineSize = `${Math.max(2, Math.round(48 * count / most))}px`;
      const isCheck = meta.filters.checks.some(([check, counts]) => check === reason && counts[0]);
      byId("rejects").append(el("button", { type: "button", title: isCheck ? `Show what ${reason} rejected` : `Search for ${reason}`,
        onclick: () => renderfarm.go(isCheck ? { check: `${reason}:rejected` } : { q: `"${reason}"` }) },
      el("span", { dir: "auto" }, reason), bar, el("b", {}, number(count))));
    }
    if (!meta.reasons.length) return;
    byId("reasons").append(el("span", { className: "label" }, "Most often"));
    for (const [check, reason, count] of meta.reasons) {
      byId("reasons").append(el("button", { type: "button", title: `Rejected by ${check}. Search for it`, onclick: () => renderfarm.go({ q: `"${reason.replaceAll('"', " ")}"` }) },
        el("span", { dir: "auto" }, reason), el("b", {}, number(count))));
    }
  }

  function drawTools() {
    const { filters } = meta;
    const choose = (name, value, count, title) => el("button", { type: "button", value, title, className: name && `is-${name}`, onclick: () => renderfarm.go({ state: value }) },
      LABELS[name] ?? "All", el("b", {}, number(count)));
    byId("states").append(choose("", "", meta.current, "Every image of the plan that has been attempted"));
    for (const [name, count] of filters.states) {
      if (count) byId("states").append(choose(name, name, count, MEANINGS[name]));
    }
    const check = byId("check");
    check.append(el("option", { value: "" }, "Any verdict"));
    meta.outcomes.forEach((outcome, place) => {
      const found = filters.checks.filter(([, counts]) => counts[place]);
      if (!found.length) return;
      const group = el("optgroup", { label: LABELS[outcome] });
      if (found.length > 1) group.append(el("option", { value: `:${outcome}` }, ANY[outcome]));
      group.append(...found.map(([name, counts]) => el("option", { value: `${name}:${outcome}` }, `${LABELS[outcome]}: ${name} (${number(counts[place])})`)));
      check.append(group);
    });
    check.disabled = check.options.length === 1;
    check.onchange = () => renderfarm.go({ check: check.value });
    const tag = byId("tag");
    tag.append(el("option", { value: "" }, "Tag…"));
    for (const [key, values] of filters.tags) {
      if (!values) continue;
      tag.append(el("optgroup", { label: key }, ...values.map(([value, count]) =>
        el("option", { value: JSON.stringify([key, value]) }, `${key}: ${value} (${number(count)})`))));
    }
    tag.disabled = tag.options.length === 1;
    tag.onchange = () => { if (tag.value) renderfarm.addTag(...JSON.parse(tag.value)); };
    for (const [size, title] of [["s", "Small pictures"], ["m", "Middle-sized pictures"], ["l", "Large pictures"]]) {
      byId("sizes").append(el("button", { type: "button", value: size, title, onclick: () => renderfarm.go({ size }, { samePage: true }) }, size.toUpperCase()));
    }
  }

  function drawChoices(view) {
    for (const button of byId("states").children) button.setAttribute("aria-pressed", String(button.value === view.state));
    for (const button of byId("sizes").children) button.setAttribute("aria-pressed", String(button.value === view.size));
    if (byId("search").value !== view.q) byId("search").value = view.q;
    byId("check").value = view.check;
    byId("tag").value = "";
    byId("grid").dataset.size = view.size;
    const chips = view.tags.map(([key, value]) => el("button", { type: "button", title: "Remove this filter", onclick: () => renderfarm.removeTag(key, value) },
      el("span", { dir: "auto" }, `${key}: ${value}`), " ×"));
    if (renderfarm.isFiltered(view)) chips.push(el("button", { type: "button", className: "quiet", onclick: () => renderfarm.go({ q: "", state: "", check: "", tags: [] }) }, "Clear filters"));
    byId("chips").replaceChildren(...chips);
  }

  function drawFound(view, count, isDone, searched) {
    const [from, to] = renderfarm.range(view);
    const { summary } = meta;
    let text = renderfarm.isFiltered(view) ? `${number(count)} of ${number(to - from)} images` : `${number(count)} images`;
    if (!isDone) text += `, searched ${number(Math.min(searched, to) - from)}…`;
    const unseen = summary.remaining - (meta.filters.states.find(([name]) => name === "remaining")?.[1] ?? 0);
    const isNarrow = view.q.trim() || view.check || view.tags.length || (view.state && view.state !== "remaining");
    if (isDone && unseen > 0 && !isNarrow) text += `; ${number(unseen)} more not attempted yet`;
    byId("found").textContent = text;
    byId("save").disabled = !count || !isDone;
  }

  function drawPagers(page, pages) {
    for (const nav of document.querySelectorAll(".pager")) {
      const turn = (label, to, title) => el("button", { type: "button", title, "aria-label": title, disabled: to < 1 || to > pages || to === page, onclick: () => renderfarm.go({ page: to }, { samePage: true, top: true }) }, label);
      const input = el("input", { type: "number", min: 1, max: pages, value: page, "aria-label": "Page" });
      input.onchange = () => renderfarm.go({ page: Math.min(pages, Math.max(1, Math.round(Number(input.value)) || 1)) }, { samePage: true, top: true });
      nav.hidden = pages < 2;
      nav.replaceChildren(turn("«", 1, "First page"), turn("‹", page - 1, "Previous page"), el("label", {}, "Page ", input, ` of ${number(pages)}`), turn("›", page + 1, "Next page"), turn("»", pages, "Last page"));
    }
  }

  function picture(source, extra = {}) {
    if (!source) return el("span", { className: "missing" }, "no picture kept");
    const image = el("img", { alt: "", decoding: "async", ...extra });
    image.onerror = () => image.replaceWith(el("span", { className: "missing" }, "picture not found"));
    image.src = source;
    return image;
  }

  function card(position, line) {
    const marks = line[LINE.marks].map((mark) => meta.outcomes[mark % meta.outcomes.length]);
    const state = STATES[line[LINE.state]];
    const tone = state === "accepted" && marks.includes("flagged") ? "flagged" : state;
    const reason = line[LINE.reasons].at(-1) ?? "";
    const tries = line[LINE.attempts];
    const name = line[LINE.row_id] || "(no row id)";
    const node = el("button", { type: "button", className: `card is-${tone}`, title: line[LINE.superseded] ? MEANINGS.superseded : MEANINGS[tone],
      onclick: () => renderfarm.open(position) },
    el("span", { className: "picture" }, picture(line[LINE.thumb], { loading: "lazy" }),
      tone === "accepted" ? "" : el("span", { className: "state" }, `${GLYPHS[tone]} ${LABELS[tone]}`),
      tries > 1 ? el("span", { className: "tries" }, `${tries} attempts`) : ""),
    el("span", { className: "name" }, el("b", { dir: "auto" }, name), el("span", { className: "index" }, String(line[LINE.index]))),
    el("span", { className: "prompt", dir: "auto" }, line[LINE.prompt]),
    reason ? el("span", { className: `reason ${state === "accepted" && tone !== "flagged" ? "past" : ""}`, dir: "auto" }, reason) : "");
    node.dataset.position = position;
    return node;
  }

  function drawGrid(cards) {
    const none = meta.images ? "No image matches. Clear a filter, or search for fewer words." : "Nothing has been rendered yet.";
    byId("grid").replaceChildren(...(cards.length ? cards : [el("p", { className: "nothing" }, none)]));
  }

  // RFC 4180; what a spreadsheet would run as a formula, behind blanks and breaks too, gets an apostrophe. A tag has a column of its own.
  async function saveList(positions) {
    const formula = /^[\s\u200b-\u200f\u2060\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]|^[\t\r\n]/;
    const cell = (value) => `"${(formula.test(value) ? `'${value}` : String(value)).replaceAll('"', '""')}"`;
    const found = [];
    const tags = new Set();
    for (const position of positions) {
      const [line, attempts] = await Promise.all([renderfarm.line(position), renderfarm.attempts(position)]);
      const shown = attempts.find(({ record }) => record.outcome === "accepted") ?? attempts.at(-1);
      for (const [name] of line[LINE.tags]) tags.add(name);
      found.push([line, shown?.record.object_key ?? ""]);
    }
    const rows = [["row_id", "index", "image_id", "state", "attempts", "reasons", "prompt", "text", "file", ...[...tags].map((name) => `tag.${name}`)]];
    for (const [line, file] of found) {
      const values = new Map(line[LINE.tags]);
      rows.push([line[LINE.row_id], line[LINE.index], line[LINE.image_id], line[LINE.superseded] ? "superseded" : STATES[line[LINE.state]],
        line[LINE.attempts], line[LINE.reasons].join("; "), line[LINE.prompt], line[LINE.text] ?? "", file,
        ...[...tags].map((name) => values.get(name) ?? "")]);
    }
    const url = URL.createObjectURL(new Blob([`\ufeff${rows.map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`], { type: "text/csv" }));
    el("a", { href: url, download: `${meta.job}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }

  return { el, byId, LABELS, GLYPHS, MEANINGS, time, picture, card, drawHeader, drawTools, drawChoices, drawFound, drawPagers, drawGrid, saveList };
})());
