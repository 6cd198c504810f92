// The parts of the page, each made of a review (`serinus.dora.review.Page`) and of what the person has chosen to see.

import { mark, OUTCOMES, STAGES } from "./charts.js";
import * as charts from "./charts.js";
import { h, link, s } from "./dom.js";
import { COVERAGE, FIGURES, VERDICT } from "./figures.js";
import * as say from "./words.js";

/** Rows that are shown before somebody asks for all. */
export const FEW = { services: 12, failures: 10, most: 2000 };

export const query = (view) => `?${new URLSearchParams(Object.entries(view).filter(([, value]) => value))}`;

/** The place on this page that lists what a number was computed from. Days are [from, end). */
const events = (figure, from, end, service = "") => `#events/${[figure, from, end, service].map(encodeURIComponent).join("/")}`;
const week = (page) => [page.review.lines.at(-1).monday, say.plus(page.review.lines.at(-1).monday, 7)];
const four = (page) => [page.review.lines.at(-4).monday, say.plus(page.review.lines.at(-1).monday, 7)];
const dates = ([from, end]) => `${say.day(from)} – ${say.dayLong(say.plus(end, -1))}`;

function verdict(met, more = "") {
  const [word, glyph] = VERDICT[met];
  return h("span", { class: `verdict v-${met}` }, h("span", { "aria-hidden": "true" }, `${glyph} `), word, more);
}

/** Written alike, and yet worse: it says so. */
const just = (figure, clause) => (clause.met === false && figure.show(clause.value) === figure.show(clause.target) ? ", by little" : "");

/** A table that scrolls by itself where it is too wide, and can be scrolled by keys. */
function table(label, heads, rows, name = "") {
  return h(
    "div",
    { class: `scroll ${name}`, tabindex: 0, role: "region", "aria-label": label },
    h("table", {}, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col", class: head.number ? "number" : null }, head.text ?? head)))), h("tbody", {}, rows)),
  );
}
const number = (...inside) => h("td", { class: "number" }, inside);

/** The same in words and numbers, for whoever wants it so. */
const asTable = (id, name, inside) => h("details", { class: "astable", id }, h("summary", {}, name), inside);

function section(id, name, note, ...inside) {
  return h("section", { id, "aria-labelledby": `${id}-title` }, h("div", { class: "section-head" }, h("h2", { id: `${id}-title` }, name), note && h("p", { class: "note" }, note)), inside);
}

// ---- head ----

function choice(name, label, value, every, options) {
  const known = options.includes(value) || !value ? options : [value, ...options];
  return h(
    "label",
    { class: "choice" },
    h("span", {}, label),
    h("select", { id: `scope-${name}`, "data-scope": name, "data-value": value }, h("option", { value: "" }, every), known.map((option) => h("option", { value: option }, option))),
  );
}

export function head(state) {
  const { page, view, scopes, live } = state;
  const mine = view.team ? scopes.services.filter((one) => one.team === view.team) : scopes.services;
  const monday = page?.review.lines.at(-1).monday;
  const go = (weeks) => query({ ...view, week: say.weekOf(say.plus(monday, 7 * weeks)) });
  const last = page && say.mondayOf(page.today) <= monday;
  const step = (id, label, glyph, to, off) => (off ? h("span", { class: "step off", id, "aria-hidden": "true" }, glyph) : h("a", { class: "step", id, href: to, "data-do": "go", "aria-label": label }, glyph));
  return [
    h("div", { class: "bar" },
      h("h1", {}, h("span", { class: "brand" }, "Serinus"), " delivery review"),
      h("form", { class: "scope", "aria-label": "What is shown" },
        choice("team", "Team", view.team, "all teams", scopes.teams),
        choice("service", "Service", view.service, "all services", mine.map((one) => one.service)),
        choice("environment", "Environment", view.environment, "production", scopes.environments)),
      page && h("nav", { class: "week", "aria-label": "Week" },
        step("week-before", "The week before", "‹", go(-1), false),
        h("span", { class: "which" }, h("strong", {}, page.week), ` ${dates(week(page))}`),
        step("week-after", "The week after", "›", go(1), last),
        view.week && !last && h("a", { href: query({ ...view, week: "" }), "data-do": "go" }, "this week"))),
    h("div", { class: "bar facts" },
      h("span", { id: "live", class: live.on ? "live on" : "live" }, h("span", { "aria-hidden": "true" }, live.on ? "● " : "○ "), live.on ? "live" : `not live: ${live.why}`),
      page && h("span", { id: "fresh" }, h("span", { id: "age" }, state.age), `, ${say.many(page.freshness.facts, "fact")}`, page.freshness.waiting ? h("strong", {}, `, ${say.many(page.freshness.waiting, "service")} being read anew`) : ""),
      page && h("span", {}, `days of ${page.zone}`, page.running ? `, the week still runs: ${page.review.week.days} of 7 days` : ""),
      page && coverage(page),
      h("span", { class: "keys" }, h("button", { type: "button", "data-do": "keys", id: "show-keys" }, h("kbd", {}, "?"), " keys"), state.isIn && h("button", { type: "button", "data-do": "logout" }, "Log out"))),
  ];
}

function coverage(page) {
  const found = Object.entries(COVERAGE).map(([name, { words }]) => [name, words(page.review.week[name]), page.review.week[name]]);
  const missing = found.filter(([, , n]) => n);
  if (!missing.length) return h("span", { id: "coverage" }, page.review.week.failed.n ? "coverage: nothing is missing this week" : "");
  return h("span", { id: "coverage" }, "not in the figures of the week: ", missing.map(([name, words], place) => [place ? ", " : "", h("a", { href: events(name, ...week(page)) }, words)]));
}

// ---- cards ----

function change(figure, now, before, what) {
  const value = figure.of(now), was = figure.of(before);
  if (value === null || was === null) return h("li", {}, `${what}: nothing to compare`);
  const by = value - was, text = figure.share ? `${Math.abs(100 * by).toFixed(1)} points` : figure.show(Math.abs(by));
  const shown = figure.show(value) === figure.show(was);
  const a = figure.share?.(now), b = figure.share?.(before);
  const chance = a && a.low <= b.high && b.low <= a.high;
  const word = shown ? "" : chance ? ", may be chance" : by > 0 === Boolean(figure.more) ? ", better" : ", worse";
  return h("li", {}, `${what}: `, h("span", { class: "by" }, shown ? "the same" : `${by > 0 ? "+" : "−"}${text}`), `${word} (was ${figure.show(was)}, n ${say.count(figure.n(before))})`);
}

function card(page, name, width) {
  const figure = FIGURES[name], { review } = page, now = review.week;
  const clause = review.contract.find((one) => one.figure === name);
  const target = clause?.target ?? null;
  const line = review.lines.map((one) => figure.of(one.figures));
  return h(
    "article",
    { class: "card", id: `card-${name}`, "aria-labelledby": `card-${name}-title` },
    h("h3", { id: `card-${name}-title` }, figure.name),
    h("p", { class: "value" }, h("span", { class: "figure", "data-value": name }, figure.show(figure.of(now))), figure.of(now) !== null && figure.unit ? h("span", { class: "unit" }, ` ${figure.unit}`) : ""),
    h("ul", { class: "beside" }, figure.beside(now).map(([words, of]) => h("li", { "data-of": of }, words))),
    h("p", { class: "goal" }, h("span", { class: "goal-name" }, "target "), figure.goal(target), clause && h("span", { class: "judged" }, verdict(clause.met, just(figure, clause)), ` over 4 weeks: ${figure.show(clause.value)}, n ${say.count(clause.n)}`)),
    charts.line(figure.name, review.lines.map((one) => one.week), line, target, figure.show, width),
    h("ul", { class: "changes" }, change(figure, now, review.lines.at(-2).figures, "to last week"), change(figure, review.four, review.before, "4 weeks to the 4 before")),
    h("p", { class: "way" }, h("a", { href: events(name, ...week(page)) }, "Formula and events", h("span", { class: "unseen" }, ` of ${figure.name}`))),
  );
}

// ---- contract ----

function contract(page) {
  const rows = page.review.contract.map((clause) => {
    const figure = FIGURES[clause.figure];
    return h(
      "tr",
      { "data-key": clause.figure },
      h("th", { scope: "row" }, figure.name),
      h("td", { class: "says" }, verdict(clause.met, just(figure, clause))),
      number(figure.show(clause.value)),
      number(h("span", { class: "unseen" }, figure.goal(clause.target)), h("span", { "aria-hidden": "true" }, `${figure.sign} ${figure.show(clause.target)}`)),
      number(h("a", { href: events(clause.figure, ...four(page)) }, say.count(clause.n), h("span", { class: "unseen" }, ` events of ${figure.name}`))),
      number(say.times(clause.gap)),
    );
  });
  return section("contract", "The contract", `four weeks, ${dates(four(page))}`,
    table("The contract over four weeks", ["figure", "verdict", { text: "value", number: true }, { text: "target", number: true }, { text: "n", number: true }, { text: "gap", number: true }], rows),
    h("p", { class: "note" }, "Gap: how many times worse than the target; 1 is met. A failure rate is missed only where the lower end of its interval is above the target: one failure of fifty is 2 %, and 0.4 to 10 %."));
}

// ---- deployments ----

function deployments(page, width) {
  const { days, lines } = page.review, monday = lines.at(-1).monday;
  const names = OUTCOMES.filter(([name]) => days.some((one) => one.standings[name]));
  const target = page.review.contract.find((one) => one.figure === "frequency").target;
  const n = days.reduce((sum, one) => sum + one.deployments, 0);
  const rows = [...days].reverse().map((one) =>
    h("tr", { "data-key": one.day }, h("th", { scope: "row" }, say.weekday(one.day)), number(h("a", { href: events("frequency", one.day, say.plus(one.day, 1)) }, say.count(one.deployments))), names.map(([name]) => number(say.count(one.standings[name] ?? 0)))));
  return section("days", "Deployments a day, by what became of them", `n ${say.many(n, "deployment")} in ${say.many(days.length, "day")}; ${page.week} is shaded`,
    charts.days(days, monday, target, width),
    charts.legend(names.map(([name, word]) => [`o-${name}`, word]), `target ${say.often(target)} deployments a day`),
    asTable("days-table", "Each day as a table", table("Releases of each day", ["day", { text: "deployments", number: true }, ...names.map(([, word]) => ({ text: word, number: true }))], rows, "tall")));
}

// ---- lead time ----

function lead(page, width) {
  const { four: numbers, week: now } = page.review;
  const bake = numbers.bake.n ? ` Of the rollout, ${say.span(numbers.bake.median)} (median, n ${say.count(numbers.bake.n)}) is a canary’s time among users.` : "";
  const commit = numbers.first_commit.n ? ` From the first commit, as DORA has it: median ${say.span(numbers.first_commit.median)}, n ${say.count(numbers.first_commit.n)}.` : "";
  return section("lead", "Where lead time goes", `four weeks, n ${say.many(numbers.lead.n, "change")}`,
    numbers.lead.n ? charts.waterfall(numbers.stages, numbers.lead, width) : h("p", { class: "nothing" }, "No change with a date reached everybody in these four weeks."),
    numbers.lead.n ? h("p", { class: "note" }, `Each stage begins where the one before ends, and is as long as its share of all the time; medians do not add up.${bake}${commit}`) : "",
    h("p", { class: "way" }, h("a", { href: events("lead", ...four(page)) }, `${say.many(numbers.lead.n, "change")} of four weeks`), ", ", h("a", { href: events("lead", ...week(page)) }, `${say.count(now.lead.n)} of the week`)));
}

function slowest(page) {
  const most = Math.max(1, ...page.slowest.map((one) => one.delivery.lead ?? 0));
  const rows = page.slowest.map((one, place) => {
    const { delivery } = one;
    const [longest] = STAGES.filter(([name]) => delivery.stages[name]).sort((a, b) => delivery.stages[b[0]] - delivery.stages[a[0]]);
    return h(
      "tr",
      { "data-key": `${delivery.change} ${delivery.release} ${place}` },
      h("th", { scope: "row", class: "wide" }, link(one.url, one.title || delivery.change)),
      number(say.span(delivery.lead)),
      h("td", {}, charts.strip(delivery.stages, delivery.lead, most)),
      h("td", { class: "dim" }, longest ? `${longest[1]} ${say.span(delivery.stages[longest[0]])}` : "no stage is known"),
    );
  });
  return section("slowest", "The slowest changes of the week", `${page.slowest.length} of ${say.many(page.review.week.lead.n, "change")}`,
    rows.length ? table("The slowest changes of the week", ["change", { text: "lead time", number: true }, "stages", "most of it"], rows) : h("p", { class: "nothing" }, "No change with a date reached everybody in this week."));
}

// ---- line of time ----

function timeline(page, now, width) {
  const { releases, incidents, zone } = page;
  if (!releases.length && !incidents.length) return section("time", "Releases and incidents", dates(week(page)), h("p", { class: "nothing" }, "Neither a release nor an incident in this week."));
  const version = new Map(releases.map((one) => [one.key, `${one.service} ${one.version}`.trim()]));
  const kinds = OUTCOMES.filter(([name]) => releases.some((one) => one.standing === name));
  const known = kinds.map(([name, word]) => h("li", {}, s("svg", { viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, mark(name, 6, 6, false)), ` ${word}`));
  const told = incidents.map((one) =>
    h(
      "tr",
      { "data-key": one.key },
      h("th", { scope: "row", class: "wide" }, link(one.url, one.title || one.key)),
      h("td", {}, one.service || "of no service"),
      h("td", {}, say.at(one.began, zone)),
      number(one.began === null ? say.NONE : one.resolved === null ? "not over" : say.span(one.resolved - one.began)),
      h("td", { class: "dim" }, one.release ? version.get(one.release) ?? one.release : "no release explains it"),
      h("td", {}, reclassify(`incident/${one.key}`, one.title || one.key)),
    ));
  const listed = releases.map((one) => h("tr", { "data-key": one.key }, h("th", { scope: "row" }, one.service), h("td", {}, one.version || one.key), h("td", {}, OUTCOMES.find(([name]) => name === one.standing)?.[1] ?? one.standing, one.failed ? ", failed" : ""), h("td", {}, say.at(one.reached, zone)), h("td", {}, say.at(one.promoted, zone)), h("td", {}, reclassify(`release/${one.key}`, `${one.service} ${one.version}`))));
  return section("time", "Releases and incidents", [`${say.many(releases.length, "release")}${page.more ? ", the newest of more" : ""}, ${say.many(incidents.length, "incident")}; ${dates(week(page))}; `, h("a", { href: events("failed", ...week(page)) }, "events")],
    charts.timeline(page, now, width),
    h("ul", { class: "legend" }, known, incidents.length ? h("li", {}, s("svg", { viewBox: "0 0 18 12", width: 18, height: 12, "aria-hidden": "true" }, s("rect", { class: "incident", x: 1, y: 3, width: 16, height: 6 })), " incident of a release") : "", incidents.some((one) => !one.release) ? h("li", {}, s("svg", { viewBox: "0 0 18 12", width: 18, height: 12, "aria-hidden": "true" }, s("rect", { class: "incident loose", x: 1, y: 3, width: 16, height: 6 })), " that no release explains") : ""),
    incidents.length ? asTable("incidents-table", `${say.many(incidents.length, "incident")} as a table`, table("Incidents of the week", ["incident", "service", "began", { text: "lasted", number: true }, "of release", h("span", { class: "unseen" }, "a person’s word")], told, "tall")) : "",
    releases.length ? asTable("releases-table", `${say.many(releases.length, "release")} as a table`, table("Releases of the week", ["service", "version", "outcome", "first user", "100 %", h("span", { class: "unseen" }, "a person’s word")], listed, "tall")) : "");
}

const reclassify = (about, name) => h("button", { type: "button", class: "small", "data-do": "mark", "data-about": about, "data-name": name }, "Reclassify", h("span", { class: "unseen" }, ` ${name}`));

// ---- ledger ----

function ledger(page, all) {
  const { failures, zone, review } = page;
  const n = review.four.failed.count, shown = all ? failures : failures.slice(0, FEW.failures);
  const rows = shown.map(({ service, environment, version, failure, seconds }) => {
    const late = failure.began === null || failure.detected === null ? null : failure.detected - failure.began;
    return h(
      "tr",
      { "data-key": failure.release },
      h("th", { scope: "row" }, h("a", { href: query({ week: page.week, service, environment: page.scope.environment && environment }), "data-do": "go" }, service || "of no service"), h("span", { class: "dim" }, ` ${version}`)),
      h("td", { class: "why" }, failure.why),
      h("td", { class: "moment" }, say.at(failure.began ?? failure.detected, zone)),
      number(late === null ? say.NONE : `${late < 0 ? "−" : ""}${say.exact(Math.abs(late))}`),
      number(h("strong", {}, seconds === null ? (failure.detected !== null && failure.recovered === null ? "not over" : say.NONE) : say.exact(seconds)), seconds >= 120 ? h("span", { class: "dim" }, ` ${say.span(seconds)}`) : ""),
      number(say.percent(failure.share)),
      h("td", {}, failure.escaped ? h("span", { class: "tag escaped" }, "escaped") : h("span", { class: "tag caught" }, "caught")),
      h("td", {}, reclassify(`release/${failure.release}`, `${service} ${version}`)),
    );
  });
  return section("failures", "Failures", [`${say.count(rows.length)} newest of `, h("a", { href: events("failed", ...four(page)) }, say.many(n, "failure")), ` in four weeks, ${dates(four(page))}; users: the mean share that had it`],
    rows.length
      ? table("Failures of four weeks", ["service, version", "why", "began", { text: "detected after", number: true }, { text: "recovered in", number: true }, { text: "users", number: true }, "when", h("span", { class: "unseen" }, "a person’s word")], rows)
      : h("p", { class: "nothing" }, review.four.failed.n ? `None of ${say.many(review.four.failed.n, "release")} failed in these four weeks.` : "No release reached a user in these four weeks."),
    failures.length > FEW.failures ? h("p", { class: "way" }, h("button", { type: "button", "data-do": "all-failures", "aria-expanded": String(all) }, all ? "Show fewer" : `Show all ${failures.length}`)) : "");
}

function recoveries(page, width) {
  const { four: numbers, contract: clauses, recoveries: buckets } = page.review;
  const target = clauses.find((one) => one.figure === "recovery").target;
  const rest = numbers.open ? `, ${say.count(numbers.open)} not over` : "";
  const rows = buckets.map((one, place) => h("tr", {}, h("th", { scope: "row" }, one.below === null ? `${say.span(buckets[place - 1].below)} or more` : `below ${say.span(one.below)}`), number(say.count(one.caught)), number(say.count(one.escaped))));
  return section("recovery", "How long recovery took", [`four weeks, n `, h("a", { href: events("recovery", ...four(page)) }, say.many(numbers.recovery.n, "failure")), rest],
    numbers.recovery.n ? charts.histogram(buckets, target, width) : h("p", { class: "nothing" }, "No failure with its moments known in these four weeks."),
    numbers.recovery.n ? h("p", { class: "note" }, `Caught: median ${say.span(numbers.caught.median)}, p90 ${say.span(numbers.caught.p90)}. Escaped: median ${say.span(numbers.escaped.median)}, p90 ${say.span(numbers.escaped.p90)}. Classes grow to the right.`) : "",
    numbers.recovery.n ? asTable("recovery-table", "As a table", table("Recovery times", ["recovered", { text: "caught", number: true }, { text: "escaped", number: true }], rows)) : "");
}

// ---- services ----

export function services(page, ui) {
  const every = page.review.services, words = ui.filter.trim().toLowerCase();
  const found = words ? every.filter((row) => `${row.service} ${row.team}`.toLowerCase().includes(words)) : every;
  const shown = found.slice(0, ui.all ? FEW.most : FEW.services);
  const rows = shown.map((row) => {
    const { figures } = row, of = (figure) => events(figure, ...four(page), row.service);
    const cell = (figure) => number(h("a", { href: of(figure), "aria-label": `${FIGURES[figure].name} of ${row.service}: ${FIGURES[figure].show(FIGURES[figure].of(figures))}, n ${FIGURES[figure].n(figures)}` }, FIGURES[figure].show(FIGURES[figure].of(figures))), h("span", { class: "dim" }, ` n ${say.count(FIGURES[figure].n(figures))}`));
    return h(
      "tr",
      { "data-key": row.service },
      h("th", { scope: "row" }, row.service ? h("a", { href: query({ ...ui.view, team: "", service: row.service }), "data-do": "go" }, row.service) : "of no service"),
      h("td", { class: "dim" }, row.team),
      number(h("strong", {}, say.times(row.gap))),
      h("td", {}, row.worst ? FIGURES[row.worst].name.toLowerCase() : "nothing to judge"),
      cell("frequency"), cell("lead"), cell("failed"), cell("recovery"),
    );
  });
  return section("services", "Services by gap", `${say.count(shown.length)} of ${say.many(every.length, "service")}${words ? `, ${found.length} with “${ui.filter.trim()}”` : ""}; four weeks, ${dates(four(page))}`,
    h("p", { class: "filter" }, h("label", { for: "filter" }, "Filter "), h("input", { id: "filter", type: "search", autocomplete: "off", spellcheck: "false", placeholder: "a service or a team" })),
    rows.length
      ? table("Services, the furthest from the contract first", ["service", "team", { text: "gap", number: true }, "worst in", { text: "deploys a day", number: true }, { text: "lead time", number: true }, { text: "failure rate", number: true }, { text: "recovery", number: true }], rows)
      : h("p", { class: "nothing" }, words ? "No service has that in its name or its team’s." : "No service released anything in these four weeks."),
    found.length > FEW.services ? h("p", { class: "way" }, h("button", { type: "button", "data-do": "all-services", "aria-expanded": String(ui.all) }, ui.all ? "Show fewer" : `Show all ${say.count(found.length)}`), found.length > FEW.most && ui.all ? ` The first ${say.count(FEW.most)} are listed: filter for the rest.` : "") : "");
}

// ---- all of it ----

function nothing(page, view) {
  if (page.freshness.facts && page.freshness.waiting) return h("div", { class: "notice" }, h("p", {}, `${say.many(page.freshness.facts, "fact")} are being read: figures come by themselves.`));
  if (page.freshness.facts) {
    const chosen = view.service || view.team || view.environment;
    return h("div", { class: "notice" }, h("p", {}, `There are ${say.many(page.freshness.facts, "fact")}, and no release among these twelve weeks${chosen ? " in this scope" : ""}. `, chosen ? h("a", { href: query({ week: view.week }), "data-do": "go" }, "Show everything") : "", " Earlier weeks are at ‹."));
  }
  return h(
    "div",
    { class: "notice" },
    h("p", {}, h("strong", {}, "Nothing has been told yet."), " Figures appear here by themselves, within a second, when the first release is known. What to do next:"),
    h("ol", {},
      h("li", {}, "Open a source: give the service a secret, SERINUS_DORA_SECRET_CDEVENTS, _GITHUB, _GITLAB, _ALERTMANAGER, _PAGERDUTY or _GENERIC."),
      h("li", {}, "Point it here: the operator to /ingest/cdevents (the chart does it), a forge’s webhook to /ingest/github or /ingest/gitlab, anything else to /ingest/generic."),
      h("li", {}, "Bring the past: ", h("code", {}, "serinus dora import --releases"), " reads what the cluster still has, ", h("code", {}, "serinus dora import facts.jsonl"), " what another store had."),
      h("li", {}, "If something was sent and nothing came, ", h("code", {}, "GET /quarantine"), " says why.")),
  );
}

export function main(state, widths) {
  const { page, view, ui } = state;
  const empty = page.review.lines.every((one) => !one.figures.deployments && !one.figures.failed.n) && !page.incidents.length;
  return [
    charts.textures(),
    h("p", { id: "sentence" }, page.review.sentence),
    empty && nothing(page, view),
    h("section", { id: "five", "aria-labelledby": "five-title" }, h("h2", { id: "five-title", class: "unseen" }, `Five figures of ${page.week}`), h("div", { class: "cards" }, Object.keys(FIGURES).map((name) => card(page, name, widths.card)))),
    h("div", { class: "pair wide-left" }, deployments(page, widths.wide), contract(page)),
    h("div", { class: "pair" }, lead(page, widths.half), slowest(page)),
    timeline(page, state.now(), widths.whole),
    h("div", { class: "pair wider-left" }, ledger(page, ui.failures), recoveries(page, widths.narrow)),
    services(page, { filter: ui.filter, all: ui.services, view }),
  ];
}

export function foot(state) {
  return [
    h("p", {}, "Durations are whole seconds, medians true, windows half-open, intervals Wilson’s at 95 %. A dash says that there is nothing to say, which is not 0. Every n leads to its events."),
    h("p", { class: "address" }, h("span", {}, "This view: "), h("a", { href: query(state.view), "data-do": "go" }, state.address)),
  ];
}

/** Instead of the page: who asks has to say who they are. */
export function login(problem, said) {
  return [
    h("form", { id: "login", class: "notice", method: "post", action: "/login" },
      h("h2", {}, "Who are you?"),
      h("p", { class: "reason" }, problem.message),
      h("p", {}, h("label", { for: "token" }, "Token "), h("input", { id: "token", name: "token", type: "password", autocomplete: "current-password", required: true })),
      h("p", { id: "login-refused", class: "bad", role: "alert" }, said ?? ""),
      h("p", {}, h("button", { type: "submit", class: "main" }, "Log in"))),
  ];
}

export function problem(error, wait) {
  return h("div", { class: "notice bad", role: "alert", id: "problem", "data-key": "problem" }, h("p", {}, h("strong", {}, "The review could not be read: "), error.message, wait ? ". It is tried again by itself. " : " "), h("p", {}, h("button", { type: "button", "data-do": "again" }, "Try again")));
}

// ---- events of a number ----

const MOST_KEYS = 200;

export function eventsHead(figure, from, end, service) {
  const known = FIGURES[figure] ?? COVERAGE[figure];
  return [h("p", { class: "note" }, `${say.dayLong(from)} up to ${say.dayLong(end)}${service ? `, ${service}` : ""}`), h("p", {}, known.formula)];
}

export function eventsList(figure, found) {
  const known = FIGURES[figure] ?? COVERAGE[figure];
  const lists = known.events(found).filter(([, those], place) => those.length || place === 0);
  return lists.map(([name, those]) => [
    h("h3", {}, name),
    h("p", { class: "note" }, those.length > MOST_KEYS ? `${say.count(MOST_KEYS)} of ${say.count(those.length)} are listed; GET /figures has all.` : `n ${say.count(those.length)}`),
    h("ol", { class: "events" }, those.slice(0, MOST_KEYS).map(({ key, more, mark: about }, place) => h("li", { "data-key": `${key} ${place}` }, h("span", { class: "key" }, link(key, key)), more ? h("span", { class: "dim" }, ` ${more}`) : "", about ? [" ", reclassify(about, key)] : ""))),
  ]);
}
