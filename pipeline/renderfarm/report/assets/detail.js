// One image: its attempts side by side with what the checks saw, and every field of the record.
"use strict";
Object.assign(renderfarm, (() => {
  const { meta, LINE, STATES, LABELS, GLYPHS, MEANINGS, el, byId, picture, time } = renderfarm;
  const SVG = "http://www.w3.org/2000/svg";
  const GROUPS = [
    ["Asked for", ["prompt", "negative_prompt", "text", "objects", "tags", "seed", "width", "height", "steps", "guidance", "strength", "adapter",
      "inputs", "init_image", "init_digest", "mask_image", "mask_digest"]],
    ["Model", ["weights", "weights_revision", "weights_digest", "weights_licence", "scheduler", "settings", "adapters", "dtype", "device", "driver", "renderfarm_version",
      "torch_version", "diffusers_version", "batch"]],
    ["File", ["object_key", "thumb_key", "media_type", "file_bytes", "file_sha256", "watermark_method", "watermark_version", "watermark_key_id",
      "watermark_payload", "pdq", "pdq_quality"]],
    ["Log", ["kind", "version", "job", "image_id", "row_id", "index", "attempt", "outcome", "reason", "started_us", "finished_us", "row_digest",
      "plan_digest", "claim_digest"]],
  ];
  const SHOWN_APART = ["verdicts", "reviews"];
  const PLAN_ONLY = ["manifest_digest", "settings_digest", "planned"];
  const dialog = byId("detail");
  dialog.tabIndex = -1;
  let boxesShown = true;

  function svg(tag, attributes, ...children) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  // The verdicts' boxes in image coordinates: the viewBox scales them with the picture.
  function overlay(record) {
    const { width, height, verdicts = [] } = record;
    if (!(width > 0 && height > 0)) return "";
    const marks = [];
    const size = Math.max(width, height) / 30;
    verdicts.forEach((verdict, place) => {
      for (const [x0, y0, x1, y1] of verdict.boxes ?? []) {
        const group = svg("g", { class: `box is-${verdict.outcome}`, "data-verdict": place },
          svg("title", {}, `${verdict.check}: ${verdict.reason || LABELS[verdict.outcome] || verdict.outcome}`),
          svg("rect", { x: x0, y: y0, width: Math.max(0, x1 - x0), height: Math.max(0, y1 - y0) }));
        const label = svg("text", { x: x0 + size * 0.15, y: y0 >= size * 1.4 ? y0 - size * 0.35 : y0 + size, "font-size": size }, verdict.check);
        group.append(label);
        marks.push(group);
      }
    });
    return marks.length ? svg("svg", { class: "overlay", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...marks) : "";
  }

  function framed(attempt, source, under) {
    const { record } = attempt;
    const frame = el("span", { className: "frame" });
    frame.style.setProperty("--ratio", record.width > 0 && record.height > 0 ? record.width / record.height : 1);
    if (under && source && under !== source) frame.append(el("img", { alt: "", src: under, className: "under" }));
    frame.append(picture(source, { alt: record.prompt ?? "" }), overlay(record));
    return frame;
  }

  const badge = (tone, title = "") => el("span", { className: `badge is-${tone}`, title }, `${GLYPHS[tone] ?? ""} ${LABELS[tone] ?? tone}`);
  const score = (value) => typeof value === "number" ? String(Number(value.toPrecision(4))) : value ?? "";

  function whyNot(record) {
    const reasons = (record.verdicts ?? []).filter((verdict) => verdict.outcome === "rejected").map((verdict) => verdict.reason).filter(Boolean);
    return reasons.length ? reasons.join("; ") : record.reason ?? "";
  }

  function tile(attempt, place, isShown, choose) {
    const { record } = attempt;
    return el("button", { type: "button", className: `tile is-${record.outcome}`, "data-focus": `tile ${place}`, "aria-pressed": String(isShown), onclick: choose },
      framed(attempt, attempt.thumb ?? attempt.picture),
      el("span", { className: "words" }, el("b", {}, `Attempt ${record.attempt ?? "?"}`), badge(record.outcome ?? "failed"),
        el("span", { className: "why", dir: "auto" }, record.outcome !== "accepted" ? whyNot(record) : record.reviews?.length ? `by ${record.reviews.at(-1)[1]}` : "")));
  }

  function light(place, isLit) {
    for (const box of dialog.querySelectorAll(`.stage [data-verdict="${place}"]`)) box.classList.toggle("lit", isLit);
  }

  function verdictTable(verdicts) {
    const rows = verdicts.flatMap((verdict, place) => {
      const row = el("tr", { className: `is-${verdict.outcome}` }, el("th", { scope: "row", dir: "auto" }, verdict.check), el("td", {}, badge(verdict.outcome)),
        el("td", { className: "figure" }, score(verdict.score)), el("td", { className: "figure" }, score(verdict.threshold)));
      const why = el("tr", { className: "why" }, el("td", { colSpan: 4, dir: "auto" }, verdict.reason ?? ""));
      for (const part of [row, why]) {
        part.onmouseenter = () => light(place, true);
        part.onmouseleave = () => light(place, false);
      }
      return verdict.reason ? [row, why] : [row];
    });
    return el("table", { className: "verdicts" },
      el("thead", {}, el("tr", {}, ...["Check", "Verdict", "Score", "Threshold"].map((name, place) =>
        el("th", { scope: "col", className: place > 1 ? "figure" : "" }, name)))),
      el("tbody", {}, ...rows));
  }

  function fieldText(name, value) {
    if (name === "text" && value === "") return "no text wanted";
    if (name === "tags") return value.map(([key, item]) => `${key}: ${item}`).join("\n");
    if (name === "objects") return value.map(([item, count]) => {
      const [, thing, bound] = /^(.*?)(?::(min|max))?$/s.exec(item);
      return `${{ min: "at least ", max: "at most " }[bound] ?? ""}${count} × ${thing}`;
    }).join("\n");
    if (name === "batch") return value.join("\n");
    if (name.endsWith("_us")) return time(value);
    if (name === "file_bytes") return `${value.toLocaleString("en-GB")} bytes`;
    return typeof value === "string" ? value : JSON.stringify(value);
  }

  function fieldGroup([title, names], record) {
    const isSet = (name) => Object.hasOwn(record, name) && (record[name] !== "" || name === "text");
    const missing = names.filter((name) => !isSet(name));
    const terms = names.filter(isSet).flatMap((name) => [el("dt", {}, name), el("dd", { dir: "auto" }, fieldText(name, record[name]))]);
    return el("section", {}, el("h3", {}, title), el("dl", { className: "fields" }, ...terms),
      missing.length ? el("p", { className: "unset" }, `Not set: ${missing.join(", ")}`) : "");
  }

  function fieldGroups(record) {
    const known = new Set([...GROUPS.flatMap(([, names]) => names), ...SHOWN_APART, ...PLAN_ONLY]);
    const others = meta.fields.filter((name) => !known.has(name) || (PLAN_ONLY.includes(name) && Object.hasOwn(record, name)));
    return [...GROUPS, ...(others.length ? [["Others", others]] : [])].map((group) => fieldGroup(group, record));
  }

  async function copy(text, button) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = el("textarea", { value: text });
      dialog.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    const label = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1200);
  }

  function copyButton(label, text) {
    const button = el("button", { type: "button", className: "quiet" }, label);
    button.onclick = () => copy(text, button);
    return button;
  }

  // What people said of an attempt, newest first: the newest word counts.
  function words(record) {
    return [...(record.reviews ?? [])].reverse().map(([outcome, who, note, us]) => el("p", { className: `verdict-note is-${outcome}`, dir: "auto" },
      el("b", {}, `${LABELS[outcome] ?? outcome} by ${who}`), note ? `: ${note}` : "", el("span", { className: "when" }, ` ${time(us).slice(0, 16)} UTC`)));
  }

  function side(line, attempt, view) {
    const { record } = attempt;
    const state = line[LINE.superseded] ? "superseded" : STATES[line[LINE.state]];
    const tags = (record.tags ?? []).map(([key, value]) => el("button", { type: "button", title: "Show all with this tag",
      onclick: () => { renderfarm.close(); renderfarm.addTag(key, value); } }, el("span", { dir: "auto" }, `${key}: ${value}`)));
    return el("div", { className: "side" },
      el("header", {}, el("h2", {}, el("span", { dir: "auto" }, line[LINE.row_id] || "(no row id)"), el("span", { className: "index" }, String(line[LINE.index]))),
        el("p", { className: "sub" }, badge(state, MEANINGS[state]), line[LINE.attempts] > 1 ? `attempt ${record.attempt} of ${line[LINE.attempts]} shown` : "")),
      el("p", { className: "prompt", dir: "auto" }, record.prompt ?? "(no prompt)"),
      tags.length ? el("p", { className: "chips" }, ...tags) : "",
      record.outcome !== "accepted" && whyNot(record) ? el("p", { className: `verdict-note is-${record.outcome}`, dir: "auto" }, whyNot(record)) : "",
      ...words(record),
      el("p", { className: "actions" },
        attempt.picture ? el("a", { href: attempt.picture, target: "_blank", rel: "noopener noreferrer" }, "Open full image") : "",
        copyButton("Copy image id", line[LINE.image_id]), copyButton("Copy record", JSON.stringify(record, null, 2)),
        copyButton("Copy link", renderfarm.linkTo(line, record, view))),
      record.verdicts?.length ? verdictTable(record.verdicts) : el("p", { className: "unset" }, "No check ran on this attempt."),
      ...fieldGroups(record));
  }

  // `chosen` is the place of an attempt; undefined shows the one that stands for the image.
  function drawDetail({ line, attempts, chosen, where, view, choose }) {
    const attempt = attempts[chosen];
    const focused = dialog.contains(document.activeElement) ? document.activeElement.dataset.focus : "";
    const bar = el("div", { className: "bar" },
      el("button", { type: "button", title: "Previous image (←)", "aria-label": "Previous image", "data-focus": "back", disabled: where.place <= 0, onclick: () => renderfarm.step(-1) }, "‹"),
      el("span", { className: "where" }, where.count ? `${(where.place + 1).toLocaleString("en-GB")} of ${where.count.toLocaleString("en-GB")}` : ""),
      el("button", { type: "button", title: "Next image (→)", "aria-label": "Next image", "data-focus": "on", disabled: where.place + 1 >= where.count, onclick: () => renderfarm.step(1) }, "›"),
      el("span", { className: "gap" }),
      attempt.record.verdicts?.some((verdict) => verdict.boxes?.length)
        ? el("button", { type: "button", className: "quiet toggle", title: "Show or hide the checks' boxes (B)", "aria-pressed": String(boxesShown), onclick: () => renderfarm.toggleBoxes() }, "Boxes") : "",
      el("button", { type: "button", title: "Close (Esc)", "aria-label": "Close", onclick: () => renderfarm.close() }, "×"));
    const tiles = attempts.length > 1
      ? el("div", { className: "tiles", role: "group", "aria-label": "Attempts" }, ...attempts.map((one, place) => tile(one, place, place === chosen, () => choose(place)))) : "";
    const body = el("div", { className: "body" },
      el("div", { className: "left" }, el("div", { className: `stage is-${attempt.record.outcome}` }, framed(attempt, attempt.picture ?? attempt.thumb, attempt.thumb)), tiles),
      side(line, attempt, view));
    dialog.classList.toggle("no-boxes", !boxesShown);
    dialog.replaceChildren(bar, body);
    if (!dialog.open) dialog.showModal();
    (dialog.querySelector(`[data-focus="${focused || "none"}"]:enabled`) ?? dialog).focus();
  }

  function toggleBoxes() {
    boxesShown = !boxesShown;
    dialog.classList.toggle("no-boxes", !boxesShown);
    dialog.querySelector(".toggle")?.setAttribute("aria-pressed", String(boxesShown));
  }

  return { drawDetail, toggleBoxes };
})());
