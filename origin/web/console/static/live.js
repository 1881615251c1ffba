// Parts of a page that keep themselves up to date: told that something changed, the page is asked for anew and its
// parts `[data-live]` are put in place of the old ones. ES2018, no globals. Without it a page is as good as a reload.

const SOONEST_MS = 3000;
const FIRST_WAIT_MS = 300;
const REFUSED_MS = 60000;

const place = document.querySelector("[data-events]");
const parts = () => [...document.querySelectorAll("[data-live]")];
const names = new Set(parts().flatMap((part) => part.dataset.live.split(" ")));

let source = null;
let timer = 0;
let retry = 0;
let lastAt = 0;
let isAsking = false;
let isDue = false;

const say = (state) => {
  const text = place.dataset[state];
  // Only what differs: a screen reader would read it out each time.
  if (place.textContent !== text) place.textContent = text;
  place.className = `live ${state}`;
  document.body.classList.toggle("offline", state === "off");
};

// Whoever is typing or has text selected within a part is not disturbed.
const isInUse = (part) => {
  const selected = window.getSelection();
  const hasText = selected && !selected.isCollapsed && part.contains(selected.anchorNode);
  return hasText || (part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea"));
};

const put = (page) => {
  for (const part of parts()) {
    const fresh = page.getElementById(part.id);
    if (!fresh || isInUse(part)) continue;
    for (const open of part.querySelectorAll("details[id]")) {
      const same = fresh.querySelector(`#${CSS.escape(open.id)}`);
      if (same) same.open = open.open;
    }
    const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    part.replaceChildren(...fresh.childNodes);
    if (focused) {
      const again = [...part.querySelectorAll("a[href]")].find((link) => link.getAttribute("href") === focused);
      if (again) again.focus({ preventScroll: true });
    }
    part.dispatchEvent(new CustomEvent("live:put", { bubbles: true }));
  }
};

const ask = async () => {
  if (isAsking) {
    isDue = true;
    return;
  }
  isAsking = true;
  isDue = false;
  lastAt = Date.now();
  try {
    const answer = await fetch(window.location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (answer.redirected && answer.url.includes("/console/login")) {
      window.location.reload();
      return;
    }
    if (answer.ok) put(new DOMParser().parseFromString(await answer.text(), "text/html"));
    else isDue = true;
  } catch (error) {
    isDue = true;
  } finally {
    isAsking = false;
  }
  if (isDue) soon();
};

// News come in swarms when a night begins: the page is asked for once for all of them.
function soon() {
  clearTimeout(timer);
  timer = setTimeout(ask, Math.max(FIRST_WAIT_MS, lastAt + SOONEST_MS - Date.now()));
}

const close = () => {
  clearTimeout(retry);
  if (source) source.close();
  source = null;
};

const open = () => {
  close();
  source = new EventSource(place.dataset.events);
  source.addEventListener("open", () => say("on"));
  source.addEventListener("error", () => {
    say("off");
    // Refused for good as far as the browser is concerned: too many pages, or signed out. It is tried again, seldom.
    if (source && source.readyState === EventSource.CLOSED) retry = setTimeout(open, REFUSED_MS);
  });
  for (const name of names) source.addEventListener(name, soon);
  source.addEventListener("refresh", soon);
};

if (place && window.EventSource && names.size) {
  let hiddenAt = 0;
  say("busy");
  open();
  // A page that nobody sees needs no line; browsers allow six to one server.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      hiddenAt = Date.now();
      close();
    } else {
      if (hiddenAt) soon();
      open();
    }
  });
  window.addEventListener("pagehide", close);
}
