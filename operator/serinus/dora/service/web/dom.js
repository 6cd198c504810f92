// Elements are made one by one, and text is only ever text: nothing that a service, a title or a reason says is read as markup.

const SVG = "http://www.w3.org/2000/svg";

/** The address if a browser may follow it: http, https, or a place on this page. Else null. */
export function safe(address) {
  const text = String(address ?? "");
  if (/^[?#]/.test(text)) return text;
  try {
    const { protocol, href } = new URL(text);
    return protocol === "http:" || protocol === "https:" ? href : null;
  } catch {
    return null;
  }
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (/^(on|style$|srcdoc$)/i.test(name)) throw new Error(`${name} is not set here`);
    if (name === "href") {
      const address = safe(value);
      if (address !== null) element.setAttribute(name, address);
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

export const h = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
export const s = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

/** A link that leads away, or the text alone where the address is none to follow. */
export function link(address, text) {
  const to = safe(address);
  return to === null ? h("span", {}, text) : h("a", { href: to, rel: "noopener noreferrer", target: "_blank" }, text);
}

/** What a person changes by hand; a new picture of the same thing leaves it. */
const THEIRS = new Set(["open"]);

/** Makes the children of `live` like those of `wanted`, and keeps every element that can be kept: with it focus and scrolling. */
export function patch(live, wanted) {
  const focused = document.activeElement;
  children(live, wanted);
  for (const select of live.querySelectorAll("select[data-value]")) {
    if (select !== document.activeElement || select.dataset.value !== select.dataset.shown) select.value = select.dataset.value;
    select.dataset.shown = select.dataset.value;
  }
  if (focused && focused !== document.activeElement && focused.isConnected && focused !== document.body) {
    focused.focus({ preventScroll: true });
  }
}

function element(live, wanted) {
  for (const { name } of [...live.attributes]) {
    if (!wanted.hasAttribute(name) && !THEIRS.has(name) && name !== "data-shown") live.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) if (live.getAttribute(name) !== value) live.setAttribute(name, value);
  if (!wanted.hasAttribute("data-own")) children(live, wanted);
}

const key = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") || node.id : "");
const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && key(a) === key(b);

function children(live, wanted) {
  const keyed = new Map();
  for (const node of live.childNodes) if (key(node)) keyed.set(key(node), node);
  let place = live.firstChild;
  for (const node of [...wanted.childNodes]) {
    let kept = key(node) ? keyed.get(key(node)) : place;
    while (!key(node) && kept && !alike(kept, node)) kept = key(kept) ? kept.nextSibling : null;
    if (kept && alike(kept, node)) {
      if (kept === place) place = place.nextSibling;
      else live.insertBefore(kept, place);
      if (kept.nodeType === Node.ELEMENT_NODE) element(kept, node);
      else if (kept.nodeValue !== node.nodeValue) kept.nodeValue = node.nodeValue;
    } else {
      live.insertBefore(node, place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}
