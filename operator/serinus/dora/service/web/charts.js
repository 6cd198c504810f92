// Pictures, drawn at the width that they are shown at. Each has a sentence for whoever does not see it, and most a table beside it.

import { h, s } from "./dom.js";
import * as say from "./words.js";

const px = (value) => Math.round(value * 10) / 10;
const title = (text) => s("title", {}, text);

/** What became of releases, from the ground up; a texture besides the colour. */
export const OUTCOMES = [
  ["Promoted", "promoted"],
  ["Skipped", "promoted, judgement skipped"],
  ["Running", "running"],
  ["Superseded", "superseded"],
  ["Aborted", "aborted"],
  ["RolledBack", "rolled back"],
];
export const STAGES = [
  ["wait", "waiting for a first review"],
  ["review", "review"],
  ["build", "build"],
  ["queue", "waiting for a release"],
  ["rollout", "rollout"],
];

/** Textures for the whole page, defined once. */
export function textures() {
  const hatch = (id, turn) =>
    s(
      "pattern",
      { id, width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: `rotate(${turn})` },
      s("rect", { width: 5, height: 5, class: `ground ${id}` }),
      s("rect", { width: 2, height: 5, class: `figure ${id}` }),
    );
  const dots = s(
    "pattern",
    { id: "t-Superseded", width: 5, height: 5, patternUnits: "userSpaceOnUse" },
    s("rect", { width: 5, height: 5, class: "ground t-Superseded" }),
    s("circle", { cx: 2.5, cy: 2.5, r: 1.3, class: "figure t-Superseded" }),
  );
  return s("svg", { class: "textures", width: 0, height: 0, "aria-hidden": "true", focusable: "false" }, s("defs", {}, hatch("t-Skipped", 45), hatch("t-Aborted", -45), dots, hatch("t-escaped", 45)));
}

const picture = (width, height, label, ...inside) =>
  s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, focusable: "false" }, ...inside);

const text = (x, y, words, name = "", anchor = "start") => s("text", { x: px(x), y: px(y), class: name || null, "text-anchor": anchor }, words);
const rule = (x1, y1, x2, y2, name) => s("line", { x1: px(x1), y1: px(y1), x2: px(x2), y2: px(y2), class: name });

/** Twelve weeks of one figure: a line that has gaps where nothing is known. `show` writes a value. */
export function line(label, weeks, values, target, show, width = 220) {
  const height = 64, top = 10, bottom = 50, left = 2, right = width - 6;
  const known = values.filter((value) => value !== null);
  const most = Math.max(...known, target ?? 0, 1e-9) * 1.08;
  const x = (place) => left + ((right - left) * place) / Math.max(1, values.length - 1);
  const y = (value) => bottom - ((bottom - top) * value) / most;
  const runs = [];
  values.forEach((value, place) => {
    if (value === null) return;
    if (place === 0 || values[place - 1] === null) runs.push([]);
    runs.at(-1).push([x(place), y(value)]);
  });
  const said = weeks.map((week, place) => `${week} ${values[place] === null ? "no data" : show(values[place])}`).join(", ");
  return picture(
    width,
    height,
    `${label}, twelve weeks: ${said}${target === null ? "" : `; target ${show(target)}`}`,
    rule(left, bottom, right, bottom, "axis"),
    target !== null && rule(left, y(target), right, y(target), "target"),
    runs.map((run) =>
      run.length > 1
        ? s("polyline", { class: "trend", points: run.map(([a, b]) => `${px(a)},${px(b)}`).join(" ") })
        : s("circle", { class: "alone", cx: px(run[0][0]), cy: px(run[0][1]), r: 1.8 }),
    ),
    values.at(-1) !== null && s("circle", { class: "now", cx: px(x(values.length - 1)), cy: px(y(values.at(-1))), r: 3 }),
    values.map((value, place) =>
      s(
        "rect",
        { class: "touch", x: px(x(place) - 8), y: 0, width: 16, height: bottom },
        title(`${weeks[place]}: ${value === null ? "no data" : show(value)}`),
      ),
    ),
    text(left, height - 3, weeks[0].slice(5), "small"),
    target !== null && rule(width / 2 - 44, height - 6.5, width / 2 - 26, height - 6.5, "target"),
    target !== null && text(width / 2 - 22, height - 3, `target ${show(target)}`, "small"),
    text(right, height - 3, weeks.at(-1).slice(5), "small", "end"),
  );
}

/** A step for an axis of about four parts: 1, 2 or 5 times a power of ten. */
function step(most) {
  const rough = most / 4;
  const ten = 10 ** Math.floor(Math.log10(rough));
  return Math.max(1, [1, 2, 5, 10].map((n) => n * ten).find((n) => n >= rough));
}

/** Deployments of each day, and what became of all that users had, one on the other. `from`: the week that is looked at. */
export function days(known, from, target, width) {
  const height = 196, left = 34, right = width - 4, top = 14, bottom = 164;
  const shown = width < 560 ? known.slice(-28) : known;
  const totals = shown.map((one) => OUTCOMES.reduce((sum, [name]) => sum + (one.standings[name] ?? 0), 0));
  const most = Math.max(...totals, target, 1) * 1.06;
  const slot = (right - left) / Math.max(1, shown.length);
  const y = (value) => bottom - ((bottom - top) * value) / most;
  const bars = [], marks = [], grid = [];
  for (let value = 0; value <= most; value += step(most)) {
    grid.push(rule(left, y(value), right, y(value), value ? "grid" : "axis"), text(left - 6, y(value) + 3.5, say.count(value), "small", "end"));
  }
  shown.forEach((one, place) => {
    const x = left + slot * place, wide = Math.max(1, slot - (slot > 5 ? 2 : 0.6));
    if (one.day === from) marks.push(s("rect", { class: "band", x: px(x - 1), y: top - 6, width: px(slot * Math.min(7, shown.length - place)), height: bottom - top + 6 }));
    if (say.mondayOf(one.day) === one.day) {
      marks.push(rule(x - 0.5, bottom, x - 0.5, bottom + 4, "axis"));
      if (width >= 900 || place % 14 === 0 || (shown.length <= 28 && width > 300)) marks.push(text(x, bottom + 15, say.day(one.day), "small"));
    }
    let floor = 0;
    for (const [name] of OUTCOMES) {
      const n = one.standings[name] ?? 0;
      if (!n) continue;
      bars.push(s("rect", { class: `o-${name}`, x: px(x), y: px(y(floor + n)), width: px(wide), height: px(Math.max(0.5, y(floor) - y(floor + n))) }));
      floor += n;
    }
    const parts = OUTCOMES.filter(([name]) => one.standings[name]).map(([name, word]) => `${say.count(one.standings[name])} ${word}`);
    bars.push(s("rect", { class: "touch", x: px(x), y: top, width: px(slot), height: bottom - top }, title(`${say.weekday(one.day)}: ${parts.join(", ") || "nothing"}`)));
  });
  const all = known.reduce((sum, one) => sum + one.deployments, 0);
  return picture(
    width,
    height,
    `Releases of ${say.many(shown.length, "day")} by what became of them: ${say.count(all)} deployments in all; target ${say.often(target)} a day. The table below has each day.`,
    marks.filter((one) => one.classList.contains("band")),
    grid,
    bars,
    rule(left, y(target), right, y(target), "target"),
    marks.filter((one) => !one.classList.contains("band")),
  );
}

/** The key to colours and textures, of those that there are. */
export function legend(pairs, line) {
  const dashes = h("li", {}, s("svg", { viewBox: "0 0 20 12", width: 20, height: 12, "aria-hidden": "true" }, rule(0, 6, 20, 6, "target")), ` ${line}`);
  return h("ul", { class: "legend" }, dashes, pairs.map(([name, word]) => h("li", {}, s("svg", { viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, s("rect", { class: name, x: 1, y: 1, width: 10, height: 10 })), ` ${word}`)));
}

/** Where the time of changes goes: the stages of their way one after the other, each as long as its share of all the time. */
export function waterfall(spreads, lead, width) {
  const all = STAGES.reduce((sum, [name]) => sum + (spreads[name]?.total ?? 0), 0);
  const rows = STAGES.map(([name, word]) => ({ name, word, ...(spreads[name] ?? { n: 0, median: null, total: null }) }));
  const high = 34, left = 2, right = width - 2, height = rows.length * high + 4;
  const narrow = width < 420;
  let before = 0;
  const parts = rows.map((row, place) => {
    const share = all ? (row.total ?? 0) / all : 0;
    const x = left + (right - left) * before, wide = (right - left) * share, y = place * high;
    before += share;
    return [
      s("rect", { class: "track", x: left, y: y + 16, width: px(right - left), height: 11 }),
      wide > 0 && s("rect", { class: `s-${row.name}`, x: px(x), y: y + 16, width: px(Math.max(1.5, wide)), height: 11 }, title(`${row.word}: ${say.percent(share, 0)} of all the time`)),
      before < 0.9999 && place + 1 < rows.length && share > 0 && rule(left + (right - left) * before, y + 16, left + (right - left) * before, y + high + 16, "thread"),
      text(left, y + 11, narrow ? row.word.replace("waiting for a ", "wait: ") : row.word, "name"),
      text(right, y + 11, row.n ? `${narrow ? "" : "median "}${say.span(row.median)} · n ${say.count(row.n)} · ${say.percent(share, 0)}` : "not known of any change", "small over", "end"),
    ];
  });
  const said = rows.map((row) => `${row.word} ${row.n ? `median ${say.span(row.median)}, n ${row.n}, ${say.percent(all ? (row.total ?? 0) / all : 0, 0)} of all the time` : "not known"}`);
  return picture(width, height, `Stages of ${say.many(lead.n, "change")}: ${said.join("; ")}`, parts);
}

/** The stages of one change, in a row of a table; `most`: the longest of them all. */
export function strip(stages, lead, most) {
  const width = 120;
  let x = 0;
  const parts = STAGES.flatMap(([name, word]) => {
    const wide = (width * (stages[name] ?? 0)) / Math.max(1, most), from = x;
    x += wide;
    return wide > 0.3 ? [s("rect", { class: `s-${name}`, x: px(from), y: 1, width: px(Math.max(0.8, wide)), height: 8 }, title(`${word}: ${say.span(stages[name])}`))] : [];
  });
  const said = STAGES.filter(([name]) => stages[name]).map(([name, word]) => `${word} ${say.span(stages[name])}`);
  return s("svg", { viewBox: `0 0 ${width} 10`, width, height: 10, class: "strip", role: "img", "aria-label": said.join(", ") || "no stage is known" }, parts);
}

/** The same mark for an outcome wherever it is: a shape besides the colour. */
export function mark(standing, x, y, failed) {
  const a = (name) => ({ class: `m-${standing}${failed ? " failed" : ""}`, ...name });
  const at = (points) => points.map(([dx, dy]) => `${px(x + dx)},${px(y + dy)}`).join(" ");
  if (standing === "Promoted") return s("circle", a({ cx: px(x), cy: px(y), r: 4 }));
  if (standing === "Skipped") return s("rect", a({ x: px(x - 3.5), y: px(y - 3.5), width: 7, height: 7 }));
  if (standing === "RolledBack") return s("polygon", a({ points: at([[-5, -4], [5, -4], [0, 5]]) }));
  if (standing === "Superseded") return s("polygon", a({ points: at([[0, -5], [5, 0], [0, 5], [-5, 0]]) }));
  if (standing === "Aborted") return s("path", a({ d: `M${px(x - 4)} ${px(y - 4)}l8 8m0 -8l-8 8` }));
  return s("circle", a({ cx: px(x), cy: px(y), r: 3.5 }));
}

/** The moments of seven midnights of a zone, from the first one on: a day has 23 or 25 hours where the clock is changed. */
export function midnights(start, zone) {
  return Array.from({ length: 8 }, (_, place) => {
    const near = start + place * 86400, late = say.hour(near, zone);
    return late === 0 ? near : late < 12 ? near - late * 3600 : near + (24 - late) * 3600;
  });
}

const LANES = 8;

/** Releases and incidents of a week on a line of time for each service, and between them what is whose. */
export function timeline(page, now, width) {
  const { start, end, zone, releases, incidents } = page;
  const weight = new Map();
  const add = (service, n) => weight.set(service, (weight.get(service) ?? 0) + n);
  for (const release of releases) add(release.service, release.failed ? 1000 : 1);
  for (const incident of incidents) add(incident.service, 1000);
  const order = [...weight].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([service]) => service);
  const lanes = order.length > LANES ? [...order.slice(0, LANES - 1), null] : order;
  const lane = (service) => (lanes.includes(service) ? lanes.indexOf(service) : lanes.length - 1);
  const gutter = width > 700 ? 150 : 92, left = gutter, right = width - 6, high = 30, top = 20;
  const height = top + lanes.length * high + 6;
  const x = (moment) => left + ((right - left) * (Math.min(Math.max(moment, start), end) - start)) / (end - start);
  const letters = Math.floor((gutter - 8) / 7.2);
  const cut = (name) => (name.length > letters ? `…${name.slice(1 - letters)}` : name);
  const ground = midnights(start, zone).map((moment, place) => [
    rule(x(moment), top - 4, x(moment), height - 6, "grid"),
    place < 7 && text(x(moment) + 3, 11, width > 620 ? say.weekday(say.plus(page.review.lines.at(-1).monday, place)) : say.weekday(say.plus(page.review.lines.at(-1).monday, place)).slice(0, 2), "small"),
  ]);
  const names = lanes.map((service, place) => [
    rule(0, top + place * high + high, width, top + place * high + high, "grid"),
    text(0, top + place * high + 19, service === null ? `${order.length - LANES + 1} others` : cut(service), "name"),
    service !== null && s("rect", { class: "touch", x: 0, y: top + place * high, width: gutter, height: high }, title(service)),
  ]);
  const where = new Map();
  const dots = releases.map((release) => {
    const y = top + lane(release.service) * high + 21, from = release.reached ?? release.at;
    where.set(release.key, [x(release.at), y]);
    const words = [`${release.service} ${release.version}`.trim(), OUTCOMES.find(([name]) => name === release.standing)?.[1] ?? release.standing, say.at(release.at, zone)];
    return s("g", {}, release.promoted !== null && from < release.promoted && rule(x(from), y, x(release.at), y, "exposure"), mark(release.standing, x(release.at), y, release.failed), title(words.join(" · ") + (release.failed ? " · failed" : "")));
  });
  const bars = [], blame = [];
  for (const incident of incidents) {
    if (incident.began === null) continue;
    const y = top + lane(incident.service) * high + 4, from = x(incident.began), until = x(incident.resolved ?? now);
    const target = where.get(incident.release);
    if (target) blame.push(s("path", { class: "blame", d: `M${px(from)} ${px(y + 6)}C${px(from)} ${px(y + 14)} ${px(target[0])} ${px(target[1] - 14)} ${px(target[0])} ${px(target[1] - 5)}` }));
    const words = [incident.title || incident.key, incident.severity, `${say.at(incident.began, zone)} – ${incident.resolved === null ? "not over" : say.at(incident.resolved, zone)}`, incident.release ? "of a release" : "no release explains it"];
    bars.push(
      s(
        "g",
        {},
        s("rect", { class: incident.release ? "incident" : "incident loose", x: px(from), y: px(y), width: px(Math.max(4, until - from)), height: 6, rx: 1 }),
        incident.resolved === null && s("path", { class: "open", d: `M${px(until)} ${px(y - 1)}l5 4l-5 4` }),
        title(words.filter(Boolean).join(" · ")),
      ),
    );
  }
  const linked = incidents.filter((incident) => incident.release).length;
  const label = `${say.many(releases.length, "release")}${page.more ? " and more" : ""}, ${say.many(releases.filter((one) => one.failed).length, "of them failed", "of them failed")}, and ${say.many(incidents.length, "incident")}, ${linked} of a release. The tables below have each.`;
  return picture(width, height, label, ground, names, blame, dots, bars, page.running && now > start && now < end && rule(x(now), top - 4, x(now), height - 6, "today"));
}

/** How long recovery took, in classes that grow; those caught before everybody had it apart from those that escaped. */
export function histogram(buckets, target, width) {
  const high = 62, left = 62, right = width - 4, slot = (right - left) / buckets.length;
  const most = Math.max(1, ...buckets.flatMap((bucket) => [bucket.caught, bucket.escaped]));
  const names = buckets.map((bucket) => (bucket.below === null ? "more" : say.span(bucket.below).replace(" min", "m").replace(" s", "s").replace(" h", "h").replace(" d", "d")));
  const bound = buckets.findIndex((bucket) => bucket.below === target) + 1;
  const rows = [["caught", "caught"], ["escaped", "escaped"]].map(([name, word], row) => {
    const floor = 14 + (row + 1) * high - 6 + row * 6;
    return [
      text(0, floor - 20, word, "name"),
      text(0, floor - 6, `n ${say.count(buckets.reduce((sum, bucket) => sum + bucket[name], 0))}`, "small"),
      rule(left, floor, right, floor, "axis"),
      buckets.map((bucket, place) => {
        const tall = ((high - 24) * bucket[name]) / most, x = left + slot * place;
        return [
          bucket[name] > 0 && s("rect", { class: `r-${name}`, x: px(x + 1.5), y: px(floor - tall), width: px(slot - 3), height: px(tall) }),
          bucket[name] > 0 && text(x + slot / 2, floor - tall - 3, say.count(bucket[name]), "small", "middle"),
        ];
      }),
    ];
  });
  const height = 14 + 2 * high + 24;
  const x = left + slot * bound;
  const said = (name) => buckets.map((bucket, place) => (bucket[name] ? `${bucket[name]} ${bucket.below === null ? "longer" : `below ${names[place]}`}` : "")).filter(Boolean).join(", ") || "none";
  return picture(
    width,
    height,
    `Recovery times in classes. Caught before everybody had it: ${said("caught")}. Escaped: ${said("escaped")}. Target ${say.span(target)}.`,
    rows,
    bound > 0 && rule(x, 12, x, height - 22, "target"),
    bound > 0 && text(x + 4, 11, `target ${say.span(target)}`, "target-word"),
    names.slice(0, -1).map((name, place) => text(left + slot * (place + 1), height - 8, name, "small", "middle")),
    text(left, height - 8, "0", "small", "middle"),
  );
}
