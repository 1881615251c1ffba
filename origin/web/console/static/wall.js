// The wall's own clock, and its tail in motion when it is longer than its place. ES2018, no globals.

const STEP_MS = 3500;
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
const clock = document.querySelector(".clock");
const form = new Intl.DateTimeFormat(document.documentElement.lang, {
  timeZone: "Asia/Shanghai",
  dateStyle: "full",
  timeStyle: "medium",
  hour12: false,
});

const tick = () => {
  clock.textContent = form.format(new Date());
  setTimeout(tick, 1000 - (Date.now() % 1000));
};
tick();

// One line at a time: the first goes behind the last. What is new comes from the server, at the next news.
setInterval(() => {
  const ticker = document.querySelector(".ticker");
  const list = ticker && ticker.querySelector("ul");
  if (!list || calm.matches || list.scrollHeight <= ticker.clientHeight || document.hidden) return;
  const first = list.firstElementChild;
  const move = first.animate
    ? list.animate([{ transform: "translateY(0)" }, { transform: `translateY(-${first.offsetHeight}px)` }], 600)
    : null;
  const end = () => list.isConnected && list.append(first);
  if (move) move.onfinish = end;
  else end();
}, STEP_MS);
