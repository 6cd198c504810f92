// The five figures: how each is called, computed, written and counted, and the events that it is made of.

import * as say from "./words.js";

/** Seconds from detection to recovery, as the service has them: none where one is not known, or in the wrong order. */
export const took = (failure) =>
  failure.detected === null || failure.recovered === null || failure.recovered < failure.detected ? null : failure.recovered - failure.detected;

const rate = (share, what) => [
  [`${say.count(share.count)} of ${say.many(share.n, what)}`, "n"],
  [share.low === null ? "no interval" : `95 % interval ${say.percent(share.low)} to ${say.percent(share.high)}`, "interval"],
];
const spread = (known, what) => [
  [`n ${say.many(known.n, what)}`, "n"],
  [`p50 ${say.span(known.median)} · p90 ${say.span(known.p90)}`, "spread"],
];

/** `more`: more is better. `of`: the value in a week; `beside`: n, and what the value hides; `keys`: from /figures. */
export const FIGURES = {
  frequency: {
    name: "Deployment frequency",
    unit: "a day",
    more: true,
    of: (week) => week.per_day,
    n: (week) => week.deployments,
    show: say.often,
    goal: (target) => `at least ${say.often(target)} a day`,
    sign: "≥",
    beside: (week) => [
      [`n ${say.many(week.deployments, "deployment")} in ${say.many(week.days, "day")}`, "n"],
      [`on ${week.deployment_days} of ${say.many(week.days, "day")}`, "spread"],
    ],
    formula: "Releases that reached 100 % in production, divided by the days of the window. Hotfixes that skipped judgement count, restarts do not. Days without a deployment count as 0.",
    events: (found) => [["Releases that reached 100 %", found.frequency.keys.map((key) => ({ key, mark: `release/${key}` }))]],
  },
  lead: {
    name: "Lead time for changes",
    unit: "median",
    of: (week) => week.lead.median,
    n: (week) => week.lead.n,
    show: say.span,
    goal: (target) => `at most ${say.span(target)}`,
    sign: "≤",
    beside: (week) => spread(week.lead, "change"),
    formula: "Of each change, from when it was opened to when the release that carries it reached 100 %: the true median. Changes that nobody dated are counted apart.",
    events: (found) => [
      ["Changes, slowest first", found.lead_time.deliveries.filter((one) => one.lead !== null).sort((a, b) => b.lead - a.lead).map((one) => ({ key: one.change, more: `${say.span(one.lead)}, with ${one.release}` }))],
      ["Changes without a date", found.lead_time.undated.map((key) => ({ key }))],
      ["Releases of which no changes can be told", found.lead_time.untracked.map((key) => ({ key }))],
    ],
  },
  failed: {
    name: "Change failure rate",
    unit: "",
    of: (week) => week.failed.ratio,
    n: (week) => week.failed.n,
    share: (week) => week.failed,
    show: say.percent,
    sign: "≤",
    goal: (target) => `at most ${say.percent(target)}`,
    beside: (week) => rate(week.failed, "release"),
    formula: "Failed releases divided by all that reached their first user. Failed: rolled back or aborted after that, superseded when it had done harm, an incident is its, or a person said so. Once, however many incidents there were. The interval is Wilson’s.",
    events: (found) => [
      ["Failed releases", found.failure_rate.failures.map((one) => ({ key: one.release, more: one.why, mark: `release/${one.release}` }))],
      ["Releases that users had", found.failure_rate.rate.of.map((key) => ({ key, mark: `release/${key}` }))],
    ],
  },
  recovery: {
    name: "Recovery time",
    unit: "median",
    of: (week) => week.recovery.median,
    n: (week) => week.recovery.n,
    show: say.span,
    goal: (target) => `at most ${say.span(target)}`,
    sign: "≤",
    beside: (week) => [
      ...spread(week.recovery, "failure"),
      [`caught ${say.span(week.caught.median)} (n ${say.count(week.caught.n)}) · escaped ${say.span(week.escaped.median)} (n ${say.count(week.escaped.n)})`, "apart"],
    ],
    formula: "Of failed releases, from the fault’s detection to verified stable traffic: the true median. Failures that are not over, or were never dated, are counted apart, and so are incidents that no release explains.",
    events: (found) => [
      ["Failures that are over", found.failure_rate.failures.filter((one) => took(one) !== null).map((one) => ({ key: one.release, more: `${say.exact(took(one))}, ${one.escaped ? "escaped" : "caught"}: ${one.why}`, mark: `release/${one.release}` }))],
      ["Not over yet", found.recovery.open.map((key) => ({ key, mark: `release/${key}` }))],
      ["Never dated", found.recovery.undated.map((key) => ({ key, mark: `release/${key}` }))],
      ["Incidents that no release explains", found.recovery.unlinked.map((key) => ({ key, mark: `incident/${key}` }))],
    ],
  },
  rework: {
    name: "Rework rate",
    unit: "",
    of: (week) => week.rework.ratio,
    n: (week) => week.rework.n,
    share: (week) => week.rework,
    show: say.percent,
    goal: () => "none in the contract",
    beside: (week) => rate(week.rework, "release"),
    formula: "Releases that were made to mend something (a version that served before, a hotfix, the first one after a failure that escaped) divided by all that reached their first user.",
    events: (found) => [["Releases made to mend", found.rework.rework.map((one) => ({ key: one.release, more: `${one.kind}: ${one.why}`, mark: `release/${one.release}` }))]],
  },
};

/** What is not in the figures, and would have to be known for them to be whole. */
export const COVERAGE = {
  untracked: {
    name: "Untracked deployments",
    words: (n) => `${say.many(n, "deployment")} untracked`,
    formula: "Releases that reached 100 % and of which no changes can be told: the commit, the repository or the changes are not known. Their lead times are missing.",
    events: (found) => [["Releases", found.lead_time.untracked.map((key) => ({ key }))]],
  },
  undated: {
    name: "Undated changes",
    words: (n) => `${say.many(n, "change")} undated`,
    formula: "Changes of which nobody says when they were opened, or that were opened when they had long been delivered.",
    events: (found) => [["Changes", found.lead_time.undated.map((key) => ({ key }))]],
  },
  unlinked: {
    name: "Unlinked incidents",
    words: (n) => `${say.many(n, "incident")} unlinked`,
    formula: "Incidents that began in the window and that no release explains. They are in no rate.",
    events: (found) => [["Incidents", found.recovery.unlinked.map((key) => ({ key, mark: `incident/${key}` }))]],
  },
  open: {
    name: "Failures that are not over",
    words: (n) => `${say.many(n, "failure")} not over`,
    formula: "Failures that were detected and have not recovered as far as anybody has said. They have no recovery time yet.",
    events: (found) => [["Releases", found.recovery.open.map((key) => ({ key, mark: `release/${key}` }))]],
  },
};

export const VERDICT = { true: ["met", "✓"], false: ["missed", "✕"], null: ["cannot be told", "?"] };
