// What is asked of the service, and by whom. A session is a cookie that scripts cannot see. Where the service has none to give, the
// token stays in this tab alone, and is forgotten with it.

const KEPT = "serinus.token";
const IN = "serinus.in";

export class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }

  /** Whoever asks has to say who they are, or may not. */
  get closed() {
    return this.status === 401 || this.status === 403;
  }
}

function headers(more) {
  const token = sessionStorage.getItem(KEPT);
  return token ? { ...more, Authorization: `Bearer ${token}` } : { ...more };
}

async function reason(answer) {
  const text = await answer.text().catch(() => "");
  try {
    const { detail } = JSON.parse(text);
    if (typeof detail === "string") return detail;
    if (Array.isArray(detail)) return detail.map((one) => [one.loc?.slice(1).join("."), one.msg].filter(Boolean).join(": ")).join("; ");
  } catch {
    // It was no JSON: its text says it, or its status does.
  }
  return text.slice(0, 300) || `the service answers ${answer.status} ${answer.statusText}`;
}

async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", credentials: "same-origin", ...options, headers: headers(options.headers) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "the service does not answer");
  }
  if (!answer.ok) throw new Refused(answer.status, await reason(answer));
  return answer;
}

/** JSON, and by how many seconds the service's clock is ahead of this one's. */
export async function read(path, query, signal) {
  const answer = await request(`${path}?${new URLSearchParams(query)}`, { signal });
  const date = Date.parse(answer.headers.get("date") ?? "");
  return { found: await answer.json(), ahead: Number.isNaN(date) ? 0 : (date - Date.now()) / 1000 };
}

export async function mark(said) {
  await request("/marks", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(said) });
}

export async function login(token) {
  sessionStorage.removeItem(KEPT);
  try {
    await request("/login", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }) });
  } catch (error) {
    if (error.status !== 404 && error.status !== 405) throw error;
    sessionStorage.setItem(KEPT, token);
  }
  sessionStorage.setItem(IN, "yes");
}

export const isIn = () => sessionStorage.getItem(IN) !== null;

export async function logout() {
  const kept = sessionStorage.getItem(KEPT);
  sessionStorage.removeItem(KEPT);
  sessionStorage.removeItem(IN);
  if (!kept) await request("/logout", { method: "POST" }).catch(() => undefined);
}

/** Milliseconds: without a sign of life for so long a stream is dead; the service sends one every 15 s. */
const SILENCE = 40_000;

/**
 * Server-sent events, read by fetch: EventSource sends no header. Calls `heard(names)` for each, `stands(live, wait)` when it
 * begins and when it has ended, and comes again by itself.
 */
export async function listen(heard, stands) {
  for (let tries = 0; ; ) {
    const control = new AbortController();
    let watch = 0;
    const alive = () => {
      clearTimeout(watch);
      watch = setTimeout(() => control.abort(), SILENCE);
    };
    try {
      alive();
      const answer = await request("/live", { signal: control.signal });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      stands(true, 0);
      tries = 0;
      for (let rest = ""; ; ) {
        const { done, value } = await reader.read();
        if (done) break;
        alive();
        const parts = (rest + value).split(/\r?\n\r?\n/);
        rest = parts.pop();
        for (const part of parts) {
          const lines = part.split(/\r?\n/);
          if (lines.includes("event: figures")) heard(JSON.parse(lines.find((line) => line.startsWith("data:")).slice(5)));
        }
      }
    } catch {
      // Said below: whatever ended it, it is not live.
    }
    clearTimeout(watch);
    control.abort();
    const wait = Math.min(15, 2 ** tries++);
    stands(false, wait);
    await new Promise((go) => {
      const timer = setTimeout(go, wait * 1000);
      addEventListener("online", () => (clearTimeout(timer), go()), { once: true });
      addEventListener("serinus-in", () => (clearTimeout(timer), go()), { once: true });
    });
  }
}
