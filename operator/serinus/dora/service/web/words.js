// Numbers, durations and moments for people. Durations read as the report and the command line have them.

const THOUSANDS = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
export const NONE = "–";

/** As Python rounds: a half to the even one. */
function whole(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return rest < 0.5 ? below : rest > 0.5 ? below + 1 : below % 2 ? below + 1 : below;
}

export const count = (n) => (n === null || n === undefined ? NONE : THOUSANDS.format(n));
export const many = (n, one, several = `${one}s`) => `${count(n)} ${n === 1 ? one : several}`;

/** Seconds: 45 s, 2 h 30 min, 3 d 4 h. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const all = whole(seconds);
  for (const [unit, size, below, part] of [["d", 86400, "h", 3600], ["h", 3600, "min", 60], ["min", 60, "s", 1]]) {
    if (all >= size) {
      const rest = Math.floor((all % size) / part);
      return `${Math.floor(all / size)} ${unit}${rest ? ` ${rest} ${below}` : ""}`;
    }
  }
  return `${all} s`;
}

/** A rate: 1.8 %. */
export function percent(ratio, digits = 1) {
  if (ratio === null || ratio === undefined) return NONE;
  return `${(100 * ratio).toFixed(digits).replace(/\.0+$/, "")} %`;
}

/** A day: 0.14, 7.96, 12.5, 1,190. */
export function often(value) {
  if (value === null || value === undefined) return NONE;
  if (value >= 100) return THOUSANDS.format(value);
  if (value > 0 && value < 0.005) return "under 0.01";
  return value.toFixed(value < 10 ? 2 : 1).replace(/\.?0+$/, "") || "0";
}

/** Seconds as they are, with thousands. */
export const exact = (seconds) => (seconds === null || seconds === undefined ? NONE : `${count(seconds)} s`);

export const times = (gap) => (gap === null || gap === undefined ? NONE : `${gap >= 10 ? count(gap) : gap.toFixed(2)}×`);

// ---- days and weeks: plain dates, no zone ----

const dateOf = (text) => new Date(`${text}T00:00:00Z`);
const textOf = (date) => date.toISOString().slice(0, 10);
export const plus = (day, days) => textOf(new Date(dateOf(day).getTime() + days * 86400e3));

/** The name of the ISO week that begins on a Monday. */
export function weekOf(monday) {
  const thursday = dateOf(plus(monday, 3));
  const first = Date.UTC(thursday.getUTCFullYear(), 0, 1);
  return `${thursday.getUTCFullYear()}-W${String(Math.floor((thursday - first) / (7 * 86400e3)) + 1).padStart(2, "0")}`;
}

export const mondayOf = (day) => plus(day, -((dateOf(day).getUTCDay() + 6) % 7));

const LONG = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const SHORT = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
const NAMED = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short", timeZone: "UTC" });
export const day = (text) => SHORT.format(dateOf(text));
export const dayLong = (text) => LONG.format(dateOf(text));
export const weekday = (text) => NAMED.format(dateOf(text));

// ---- moments: seconds since 1970, in the service's zone ----

const clocks = new Map();
function clock(zone, options) {
  const name = zone + JSON.stringify(options);
  if (!clocks.has(name)) {
    try {
      clocks.set(name, new Intl.DateTimeFormat("en-GB", { ...options, timeZone: zone }));
    } catch {
      clocks.set(name, new Intl.DateTimeFormat("en-GB", { ...options, timeZone: "UTC", timeZoneName: "short" }));
    }
  }
  return clocks.get(name);
}
const AT = { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" };
export const at = (moment, zone) => (moment === null || moment === undefined ? NONE : clock(zone, AT).format(new Date(moment * 1000)));
export const hour = (moment, zone) => Number(clock(zone, { hour: "2-digit", hourCycle: "h23" }).format(new Date(moment * 1000)).slice(0, 2));

/** Since when, at a glance: 3 s, 12 min, 5 h, 3 d. */
export function ago(seconds) {
  const past = Math.max(0, Math.floor(seconds));
  if (past < 120) return `${past} s ago`;
  if (past < 7200) return `${Math.floor(past / 60)} min ago`;
  if (past < 172800) return `${Math.floor(past / 3600)} h ago`;
  return `${count(Math.floor(past / 86400))} d ago`;
}
