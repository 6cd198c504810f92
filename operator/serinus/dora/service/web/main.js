// The page: what is looked at (in the address), what the service says of it, and keeping both together.

import * as ask from "./ask.js";
import { h, patch } from "./dom.js";
import { COVERAGE, FIGURES } from "./figures.js";
import * as sections from "./sections.js";
import * as say from "./words.js";

/** Milliseconds: between two readings of the review, between two tries after an error, and a reading without any cause. */
const APART = 500, RETRY = 5_000, AT_LEAST = 60_000;

const KNOWN = ["week", "team", "service", "environment"];

const state = {
  view: viewOf(location.search),
  page: null,
  problem: null,
  scopes: { services: [], teams: [], environments: [] },
  live: { on: false, why: "connecting" },
  ui: { filter: "", services: false, failures: false },
  age: "",
  address: "",
  ahead: 0,
  isIn: ask.isIn(),
  now: () => Date.now() / 1000 + state.ahead,
};
const by = (id) => document.getElementById(id);

function viewOf(search) {
  const given = new URLSearchParams(search);
  return Object.fromEntries(KNOWN.map((name) => [name, given.get(name) ?? ""]));
}

// ---- showing ----

let printed = false;

function widths() {
  if (printed) return { whole: 1000, wide: 600, half: 490, narrow: 300, card: 190 };
  const whole = Math.max(280, by("main").clientWidth);
  const gap = 48;
  if (!matchMedia("(min-width: 1000px)").matches) return { whole, wide: whole, half: whole, narrow: Math.min(whole, 460), card: whole < 500 ? whole : 220 };
  return { whole, wide: (whole - gap) * 0.62, half: (whole - gap) / 2, narrow: (whole - gap) * 0.28, card: 220 };
}

const into = (id, parts) => patch(by(id), h("div", {}, parts));

function show() {
  state.address = location.href.replace(/#.*/, "");
  state.age = age();
  document.title = [state.page?.week ?? state.view.week, state.view.service || state.view.team, "Serinus delivery review"].filter(Boolean).join(" · ");
  into("head", sections.head(state));
  const main = by("main");
  main.toggleAttribute("aria-busy", busy && stale);
  if (state.problem?.closed) into("main", sections.login(state.problem, state.said));
  else if (state.page) into("main", [state.problem && sections.problem(state.problem, true), sections.main(state, widths())]);
  else if (state.problem) into("main", sections.problem(state.problem, state.problem.status === 0 || state.problem.status >= 500));
  else into("main", h("p", { class: "quiet", role: "status" }, "Reading…"));
  into("foot", sections.foot(state));
}

function age() {
  const received = state.page?.freshness.received;
  return received === null || received === undefined ? "no fact yet" : `newest fact ${say.ago(state.now() - received)}`;
}

setInterval(() => {
  const shown = by("age");
  if (shown && state.page) shown.textContent = state.age = age();
}, 1000);

function tell(words) {
  by("told").textContent = words;
}

// ---- reading ----

let busy = false, stale = false, again = false, began = -APART, timer = 0, control = new AbortController();

/** Soon: never two at once, and with some time between them. */
function refresh(wait = 0) {
  if (busy) again = true;
  else if (!timer) timer = setTimeout(load, Math.max(wait, began + APART - performance.now()));
}

/** At once, as something else is looked at. */
function reload() {
  control.abort();
  clearTimeout(timer);
  timer = 0;
  busy = false;
  stale = true;
  load();
  show();
}

async function load() {
  timer = 0;
  busy = true;
  again = false;
  began = performance.now();
  const mine = (control = new AbortController());
  let next = AT_LEAST;
  try {
    const { found, ahead } = await ask.read("/review", state.view, mine.signal);
    if (mine !== control) return;
    Object.assign(state, { page: found, problem: null, ahead, said: "" });
    if (found.freshness.waiting) next = 2_000;
  } catch (error) {
    if (error.name === "AbortError" || mine !== control) return;
    if (!(error instanceof ask.Refused)) throw error;
    state.problem = error;
    if (error.closed) state.page = null;
    next = error.closed ? 0 : RETRY;
  }
  busy = stale = false;
  show();
  if (again) refresh();
  else if (next) refresh(next);
  if (by("events").open) list();
}

/** A cause to read that does not wait for the next reading without one. */
function cause() {
  clearTimeout(timer);
  timer = 0;
  refresh();
}

async function readScopes() {
  try {
    const { found } = await ask.read("/scopes", {});
    state.scopes = found;
    show();
  } catch (error) {
    if (!(error instanceof ask.Refused)) throw error;
    // The lists stay as they are; the review itself says what is the matter.
  }
}

// ---- live ----

function concerned(names) {
  const { service, team } = state.view;
  if (service) return names.includes(service);
  const of = new Map(state.scopes.services.map((one) => [one.service, one.team]));
  return !team || names.some((name) => !of.has(name) || of.get(name) === team);
}

function heard(names) {
  const known = new Set(state.scopes.services.map((one) => one.service));
  if (names.some((name) => name && !known.has(name))) readScopes();
  if (concerned(names)) cause();
}

function stands(on, wait) {
  const was = state.live;
  state.live = { on, why: state.problem?.closed ? "nobody is logged in" : `tried again in ${wait} s` };
  if (was.on && !on) tell("Not live any more.");
  if (!was.on && on) {
    if (was.why !== "connecting") tell("Live again.");
    cause(); // for what was missed
  }
  show();
}

// ---- what is looked at ----

function go(address, replaced = false) {
  history[replaced ? "replaceState" : "pushState"](null, "", address);
  state.view = viewOf(location.search);
  reload();
}

addEventListener("popstate", () => {
  const view = viewOf(location.search);
  if (JSON.stringify(view) !== JSON.stringify(state.view)) {
    state.view = view;
    reload();
  }
  opened();
});

// ---- the events of a number ----

let opener = null;

function wanted() {
  const [what, ...parts] = location.hash.slice(1).split("/");
  if (what !== "events") return null;
  let figure, from, end, service;
  try {
    [figure, from, end, service = ""] = parts.map(decodeURIComponent);
  } catch {
    return null;
  }
  const day = /^\d{4}-\d\d-\d\d$/;
  const known = Object.hasOwn(FIGURES, figure) || Object.hasOwn(COVERAGE, figure);
  return known && day.test(from) && day.test(end) ? { figure, from, end, service } : null;
}

function opened() {
  const dialog = by("events"), asked = wanted();
  if (!asked) {
    if (dialog.open) dialog.close();
    return;
  }
  by("events-title").textContent = (FIGURES[asked.figure] ?? COVERAGE[asked.figure]).name;
  into("events-body", [sections.eventsHead(asked.figure, asked.from, asked.end, asked.service), h("p", { class: "quiet", role: "status" }, "Reading the events…")]);
  if (!dialog.open) {
    opener = document.activeElement;
    dialog.showModal();
  }
  list();
}

let listing = 0;
async function list() {
  const asked = wanted(), mine = ++listing;
  if (!asked) return;
  const { figure, from, end, service } = asked;
  const body = sections.eventsHead(figure, from, end, service);
  try {
    const { team, environment } = state.view;
    const scope = { service: service || state.view.service, team: service ? "" : team, environment };
    const { found } = await ask.read("/figures", { start: from, end, ...scope });
    if (mine === listing) into("events-body", [body, sections.eventsList(figure, found)]);
  } catch (error) {
    if (!(error instanceof ask.Refused)) throw error;
    if (mine === listing) into("events-body", [body, h("p", { class: "notice bad", role: "alert" }, error.message)]);
  }
}

by("events").addEventListener("close", () => {
  listing++;
  if (wanted()) history.replaceState(null, "", location.pathname + location.search);
  if (opener?.isConnected) opener.focus({ preventScroll: true });
});

// ---- a person's word ----

const WORDS = {
  release: [["fine", "It did not fail"], ["failed", "It failed"], ["rework", "It was made to mend something"], ["planned", "It was planned work"], ["unmarked", "As it is computed"]],
  incident: [["unrelated", "No release made it"], ["release", "A release made it"], ["unmarked", "As it is computed"]],
};
let about = "";

function marking(button) {
  about = button.dataset.about;
  const kind = about.split("/", 1)[0];
  by("mark-about").textContent = `${kind} ${button.dataset.name.trim()}`;
  by("mark-choices").replaceChildren(
    h("legend", {}, "What it was"),
    ...WORDS[kind].map(([verdict, words], place) => h("label", {}, h("input", { type: "radio", name: "verdict", value: verdict, required: true, checked: place === 0 }), ` ${words}`)),
  );
  by("mark-releases").replaceChildren(...(state.page?.releases ?? []).map((one) => h("option", { value: one.key }, `${one.service} ${one.version}`)));
  by("mark-reason").value = by("mark-release").value = "";
  by("mark-refused").hidden = true;
  needed();
  by("mark").showModal();
}

/** Only one verdict names a release. */
function needed() {
  const named = by("mark-form").elements.verdict.value === "release";
  by("mark-release-row").hidden = !named;
  by("mark-release").required = named;
}

by("mark-choices").addEventListener("change", needed);
by("mark-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const verdict = by("mark-form").elements.verdict.value;
  const said = { about, verdict, reason: by("mark-reason").value };
  if (verdict === "release") said.release = by("mark-release").value;
  try {
    await ask.mark(said);
  } catch (error) {
    if (!(error instanceof ask.Refused)) throw error;
    by("mark-refused").textContent = error.message;
    by("mark-refused").hidden = false;
    return;
  }
  by("mark").close();
  tell("Taken. The figures follow in a moment.");
  if (!state.live.on) setTimeout(cause, 1000);
});

// ---- what a person does ----

const DOES = {
  go: (element, event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return false;
    go(element.getAttribute("href"));
    return true;
  },
  close: (element) => element.closest("dialog").close(),
  keys: () => by("keys").showModal(),
  mark: (element) => marking(element),
  again: () => reload(),
  "all-services": () => ((state.ui.services = !state.ui.services), show()),
  "all-failures": () => ((state.ui.failures = !state.ui.failures), show()),
  logout: async () => {
    await ask.logout();
    state.isIn = false;
    reload();
  },
};

document.addEventListener("click", (event) => {
  const element = event.target.closest?.("[data-do]");
  if (element && DOES[element.dataset.do](element, event) !== false) event.preventDefault();
});

document.addEventListener("change", (event) => {
  const name = event.target.dataset?.scope;
  if (!name) return;
  const view = { ...state.view, [name]: event.target.value };
  const team = state.scopes.services.find((one) => one.service === view.service)?.team;
  if (name === "team" && view.team && view.service && team !== view.team) view.service = "";
  go(`${location.pathname}${sections.query(view)}`);
});

document.addEventListener("input", (event) => {
  if (event.target.id !== "filter") return;
  state.ui.filter = event.target.value;
  show();
});

document.addEventListener("submit", async (event) => {
  if (event.target.id !== "login") {
    event.preventDefault();
    return;
  }
  event.preventDefault();
  try {
    await ask.login(by("token").value);
    state.said = "";
  } catch (error) {
    if (!(error instanceof ask.Refused)) throw error;
    state.said = error.message;
    show();
    return;
  }
  state.isIn = true;
  state.said = "It was not that one.";
  dispatchEvent(new Event("serinus-in"));
  readScopes();
  reload();
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.closest?.("input:not([type=radio]), textarea, select, [contenteditable]");
  // A table that is scrolled sideways has the arrows for itself.
  const scrolled = event.target.closest?.(".scroll");
  const sideways = scrolled && scrolled.scrollWidth > scrolled.clientWidth;
  if (typing) return;
  if ((event.key === "ArrowLeft" || event.key === "ArrowRight") && !sideways) {
    const step = by(event.key === "ArrowLeft" ? "week-before" : "week-after");
    if (step?.tagName === "A") go(step.getAttribute("href"));
  } else if (event.key === "/") {
    by("filter")?.focus();
  } else if (event.key === "?") {
    by("keys").showModal();
  } else {
    return;
  }
  event.preventDefault();
});

// ---- the size of the window, and of paper ----

let drawn = 0;
new ResizeObserver(() => {
  if (by("main").clientWidth === drawn) return;
  drawn = by("main").clientWidth;
  requestAnimationFrame(show);
}).observe(by("main"));
let closed = [];
addEventListener("beforeprint", () => {
  printed = true;
  closed = [...document.querySelectorAll("details[open]")];
  for (const details of closed) details.open = false;
  show();
});
addEventListener("afterprint", () => {
  printed = false;
  for (const details of closed) details.open = true;
  show();
});
addEventListener("hashchange", opened);

reload();
readScopes();
ask.listen(heard, stands);
opened();
