// What the console gains when scripts run; every page works without it. ES2018, no globals, nothing from elsewhere.

const texts = document.body.dataset;

// A form is sent once: its buttons say that it is under way. Coming back with the browser's button sets them free.
document.addEventListener("submit", (event) => {
  const form = event.target;
  const question = form.dataset.confirm;
  if (question && !window.confirm(question)) {
    event.preventDefault();
    return;
  }
  if (form.method !== "post") return;
  // After the browser has collected the fields: a disabled button would not send its own value.
  setTimeout(() => {
    for (const button of form.querySelectorAll("button")) {
      button.disabled = true;
      if (button === event.submitter) button.textContent = texts.busy;
    }
  });
});
window.addEventListener("pageshow", (event) => {
  if (event.persisted) window.location.reload();
});

// The search answers while one types. An answer that was overtaken by a newer question is dropped.
for (const form of document.querySelectorAll("form[data-live]")) {
  const target = document.getElementById(form.dataset.live);
  let timer = 0;
  let asked = null;
  const ask = async () => {
    if (asked) asked.abort();
    asked = new AbortController();
    const mine = asked;
    const fields = new URLSearchParams(new FormData(form));
    for (const [name, value] of [...fields]) if (!value) fields.delete(name);
    history.replaceState(null, "", `${form.action}?${fields}`);
    fields.set("part", "list");
    const count = target.querySelector("[data-count]");
    if (count) count.textContent = texts.loading;
    target.classList.add("waiting");
    target.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(`${form.action}?${fields}`, { signal: mine.signal, redirect: "error" });
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      target.replaceChildren(...page.body.childNodes);
    } catch (error) {
      if (error.name === "AbortError") return;
      const note = document.createElement("p");
      note.className = "note bad";
      note.setAttribute("role", "alert");
      note.textContent = texts.failed;
      target.replaceChildren(note);
    }
    target.classList.remove("waiting");
    target.removeAttribute("aria-busy");
  };
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(ask, 250);
  };
  form.addEventListener("input", (event) => {
    // An input method that is still composing has no Chinese word to look for yet.
    if (!event.isComposing) soon();
  });
  form.addEventListener("compositionend", soon);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    ask();
  });
}

// Copying needs a secure page; elsewhere the text is selected, ready for Ctrl+C.
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const field = button.parentElement.querySelector("[data-select]");
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch (error) {
      field.select();
      if (!document.execCommand("copy")) return;
    }
    button.textContent = texts.copied;
  });
}
for (const field of document.querySelectorAll("[data-select]")) {
  field.addEventListener("focus", () => field.select());
}
for (const button of document.querySelectorAll("[data-print]")) {
  button.addEventListener("click", () => window.print());
}

const keys = document.getElementById("keys");
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, select, textarea") !== null;
  if (isTyping || event.ctrlKey || event.altKey || event.metaKey) return;
  const search = document.querySelector("[data-search]");
  if (event.key === "/" && search) {
    event.preventDefault();
    search.focus();
    search.select();
  } else if (event.key === "?" && keys.showModal) {
    if (keys.open) keys.close();
    else keys.showModal();
  }
});
