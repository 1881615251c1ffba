// What the drafts' pages gain when scripts run: the editor, saving by itself, regions that tick together, progress.
// Every page works without it. ES2018, no globals but the editor's own (`Quill`), nothing from elsewhere.

const form = document.querySelector("form[data-draft]");
if (form) edit(form);
for (const place of document.querySelectorAll("[data-promise]")) showPromise(place);
for (const place of document.querySelectorAll("[data-progress]")) follow(place);
for (const frame of document.querySelectorAll(".screen-tv iframe, .screen-pc iframe")) fit(frame);

function edit(form) {
  const status = form.querySelector("[data-status]");
  const texts = form.dataset;
  const key = `draft-${texts.draft}`;
  const quill = makeEditor(form);
  let timer = 0;
  let saving = false;
  let sent = "";
  let leaving = false;

  const say = (text, failed) => {
    status.textContent = text;
    status.classList.toggle("failed", Boolean(failed));
  };
  const clock = (at) => new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const snapshot = () => {
    if (quill) quill.write();
    return [...new FormData(form)].filter(([name]) => !["form_token", "revision", "seen"].includes(name));
  };
  sent = JSON.stringify(snapshot());

  // What was typed is kept on this machine until it is saved: a closed tab or a flat battery loses nothing.
  const keep = () => {
    const fields = snapshot();
    if (JSON.stringify(fields) === sent) return;
    try {
      localStorage.setItem(key, JSON.stringify({ at: Date.now(), fields }));
    } catch (error) {
      // A full or forbidden storage: saving to the origin is what counts.
    }
  };
  const forget = () => {
    try {
      localStorage.removeItem(key);
    } catch (error) {
      // As above.
    }
  };

  const save = async () => {
    const fields = snapshot();
    const text = JSON.stringify(fields);
    if (saving || leaving || text === sent || !form.checkValidity()) return;
    saving = true;
    say(texts.saving);
    const body = new URLSearchParams(new FormData(form));
    body.set("auto", "1");
    body.delete("then");
    try {
      const answer = await fetch(form.action, { method: "POST", body, redirect: "error" });
      const told = await answer.json();
      if (answer.ok) {
        form.elements.revision.value = told.revision;
        form.elements.seen.value = told.seen;
        sent = text;
        forget();
        say(texts.saved.replace("{time}", clock(Date.now())));
        settle(form);
      } else if (answer.status === 409) {
        say(texts.conflict, true);
        form.dataset.autosave = "";
      } else {
        say(texts.saveFailed + told.problem, true);
      }
    } catch (error) {
      say(texts.unsaved, true);
    }
    saving = false;
    if (JSON.stringify(snapshot()) !== sent) soon();
  };
  const soon = (wait) => {
    keep();
    clearTimeout(timer);
    if (form.dataset.autosave) timer = setTimeout(save, wait || 8000);
  };
  form.addEventListener("input", () => {
    say(texts.unsaved);
    soon();
  });
  form.addEventListener("submit", () => {
    if (quill) quill.write();
    keep();
    leaving = true;
    clearTimeout(timer);
  });
  window.addEventListener("pagehide", keep);
  offerKept(form, key, sent, quill, forget, soon);
  tickTogether(form);
  showTheme(form);
  takeUploads(form, soon);
}

// The rich editor over the plain field; what it makes is written back, and sanitised by the origin.
function makeEditor(form) {
  const field = form.querySelector("[data-article]");
  const place = form.querySelector("[data-editor]");
  if (!window.Quill || !field) return null;
  const block = document.createElement("div");
  place.append(block);
  place.hidden = false;
  field.hidden = true;
  const quill = new window.Quill(block, {
    theme: "snow",
    formats: ["header", "bold", "italic", "strike", "list", "blockquote", "code-block", "link", "image", "indent"],
    modules: {
      // Pictures come as files of the draft: as text within the article they would not survive.
      uploader: { handler() {} },
      toolbar: {
        container: [
          [{ header: [2, 3, false] }],
          ["bold", "italic", "strike"],
          [{ list: "ordered" }, { list: "bullet" }],
          ["blockquote", "link", "image", "clean"],
        ],
        handlers: { image: () => pickPicture(form, quill) },
      },
    },
  });
  const fill = (html) => {
    quill.setContents(quill.clipboard.convert({ html }), "silent");
  };
  fill(field.value);
  const first = JSON.stringify(quill.getContents());
  const write = () => {
    if (JSON.stringify(quill.getContents()) !== first || quill.touched) {
      quill.touched = true;
      field.value = quill.getText().trim() || quill.root.querySelector("img") ? quill.getSemanticHTML() : "";
    }
  };
  quill.on("text-change", () => form.dispatchEvent(new Event("input", { bubbles: true })));
  return { write, fill };
}

// Pictures are chosen among the draft's own files: nothing is loaded from elsewhere, and none is pasted in as text.
function pickPicture(form, quill) {
  const at = (quill.getSelection(true) || { index: quill.getLength() }).index;
  const dialog = document.createElement("dialog");
  const title = document.createElement("h2");
  title.textContent = form.dataset.pick;
  const list = document.createElement("div");
  list.className = "pictures";
  for (const file of form.querySelectorAll("[data-picture]")) {
    const button = document.createElement("button");
    button.type = "button";
    const picture = document.createElement("img");
    picture.src = `/console/drafts/${form.dataset.draft}/files/${encodeURIComponent(file.dataset.picture)}`;
    picture.alt = "";
    button.append(picture, file.dataset.picture);
    button.addEventListener("click", () => {
      quill.insertEmbed(at, "image", picture.getAttribute("src"), "user");
      dialog.close();
    });
    list.append(button);
  }
  if (!list.children.length) list.textContent = form.dataset.pickNone;
  const close = document.createElement("button");
  close.textContent = form.dataset.close;
  close.addEventListener("click", () => dialog.close());
  dialog.append(title, list, close);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

// Text that was typed here and never saved is offered again, and never put in unasked.
function offerKept(form, key, sent, quill, forget, soon) {
  const place = document.querySelector("[data-kept]");
  let kept = null;
  try {
    kept = JSON.parse(localStorage.getItem(key));
  } catch (error) {
    return;
  }
  if (!kept || !Array.isArray(kept.fields) || JSON.stringify(kept.fields) === sent) return;
  place.hidden = false;
  const time = new Date(kept.at).toLocaleString();
  place.querySelector("[data-kept-text]").textContent = form.dataset.keptHere.replace("{time}", time);
  place.querySelector("[data-kept-drop]").addEventListener("click", () => {
    forget();
    place.hidden = true;
  });
  place.querySelector("[data-kept-restore]").addEventListener("click", () => {
    for (const box of form.querySelectorAll("input[type=checkbox]")) box.checked = false;
    for (const [name, value] of kept.fields) {
      if (/^file-\d+-upload$/.test(name) && !form.elements[name]) addFile(form, value, value, "");
      const found = form.elements[name];
      if (!found) continue;
      const every = found instanceof RadioNodeList ? [...found] : [found];
      for (const one of every) {
        if (one.type === "checkbox" || one.type === "radio") one.checked = one.checked || one.value === value;
        else one.value = value;
        if (one.type === "radio") one.checked = one.value === value;
      }
      if (name === "article" && quill) quill.fill(value);
    }
    place.hidden = true;
    form.dispatchEvent(new Event("draft:restored"));
    soon();
  });
}

// A city and its counties: ticking the one ticks the others, and a city of which some are ticked says so.
function tickTogether(form) {
  const tree = form.querySelector("[data-tree]");
  if (!tree) return;
  const radios = [...form.querySelectorAll("input[name=audience_all]")];
  const show = () => {
    tree.classList.toggle("off", radios[0].checked);
    showPublishers(form, tree);
    for (const city of tree.querySelectorAll("[data-city]")) {
      const whole = city.querySelector("[data-whole]");
      const counties = [...city.querySelectorAll(".counties input")];
      if (!whole || !counties.length) continue;
      const count = counties.filter((one) => one.checked).length;
      whole.checked = count === counties.length;
      whole.indeterminate = count > 0 && count < counties.length;
    }
  };
  tree.addEventListener("change", (event) => {
    radios[1].checked = true;
    if (event.target.matches("[data-whole]")) {
      for (const one of event.target.closest("[data-city]").querySelectorAll(".counties input")) {
        one.checked = event.target.checked;
      }
    }
    show();
  });
  // A click on the box is not meant to open or close the city.
  for (const box of tree.querySelectorAll("summary .tick")) {
    box.addEventListener("click", (event) => event.stopPropagation());
  }
  for (const one of form.querySelectorAll("input[name=audience_all], [data-publisher]")) {
    one.addEventListener("change", show);
  }
  form.addEventListener("draft:restored", show);
  show();
}

// Whose lesson it becomes says in which cities one may choose, and who is meant by all.
function showPublishers(form, tree) {
  const select = form.querySelector("[data-publisher]");
  if (!select) return;
  for (const city of tree.querySelectorAll("[data-city]")) {
    city.hidden = select.value !== "province" && city.dataset.city !== select.value;
    if (!city.hidden) continue;
    for (const box of city.querySelectorAll("input")) box.checked = false;
  }
  form.querySelector("span[data-home]").textContent = select.selectedOptions[0].dataset.home;
}

function showTheme(form) {
  const block = form.querySelector("[data-theme]");
  if (!block) return;
  const shown = block.querySelector("[data-theme-shown]");
  const month = form.elements.theme_month;
  const title = form.elements.theme_title;
  const show = (event) => {
    if (event && (event.target === month || event.target === title) && event.target.value) {
      block.querySelector("input[value=new]").checked = true;
    }
    const radio = block.querySelector("input[name=theme]:checked");
    let column = radio ? radio.value : "";
    if (column === "new") {
      const [year, number] = month.value.split("-");
      const words = block.dataset.themeForm.replace("{year}", year).replace("{month}", Number(number));
      column = month.value && title.value ? words.replace("{title}", title.value) : "";
    }
    shown.textContent = column ? block.dataset.theme.replace("{title}", column) : "";
  };
  block.addEventListener("input", show);
  block.addEventListener("change", show);
  show();
}

// A file that came in becomes a row of the form; the widget that brings it in tells its id and name.
function takeUploads(form, soon) {
  document.addEventListener("uploaded", (event) => {
    const told = event.detail;
    addFile(form, told.id, told.name, told.finding ? told.finding.kind : "");
    soon(300);
  });
  document.addEventListener("upload-removed", (event) => {
    const field = [...form.querySelectorAll("[data-file] [data-field=upload]")].find((one) => one.value === event.detail);
    if (!field) return;
    field.closest("[data-file]").remove();
    soon(300);
  });
}

function addFile(form, id, name, kind) {
  const place = form.querySelector("[data-files]");
  // Rows that were removed left gaps: no number is given twice.
  const number = Number(place.dataset.files || place.querySelectorAll("[data-file]").length);
  place.dataset.files = number + 1;
  const row = form.querySelector("[data-file-template]").content.firstElementChild.cloneNode(true);
  for (const field of row.querySelectorAll("[data-field]")) field.name = `file-${number}-${field.dataset.field}`;
  row.querySelector("[data-field=upload]").value = id;
  row.querySelector("[data-field=name]").value = name;
  if (kind === "picture") row.querySelector("[data-field=role]").value = "picture";
  row.querySelector("[data-shown]").textContent = name;
  if (kind === "picture") row.dataset.picture = name;
  const none = place.querySelector("[data-no-files]");
  if (none) none.remove();
  place.append(row);
}

// After a save, rows that were to go are gone there as well: the numbers of the others may have gaps.
function settle(form) {
  for (const row of form.querySelectorAll("[data-file]")) {
    const drop = row.querySelector("[data-field=drop], input[name$='-drop']");
    if (drop && drop.checked) row.remove();
  }
}

async function showPromise(place) {
  if (!place.querySelector("a.button")) return;
  place.setAttribute("aria-busy", "true");
  place.textContent = document.body.dataset.loading;
  try {
    const answer = await fetch(place.dataset.promise, { redirect: "error" });
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    place.replaceChildren(...page.body.childNodes);
  } catch (error) {
    place.textContent = document.body.dataset.failed;
  }
  place.removeAttribute("aria-busy");
}

async function follow(place) {
  const bar = place.querySelector("progress");
  const stage = place.querySelector("[data-stage]");
  for (;;) {
    await new Promise((done) => setTimeout(done, 1500));
    try {
      const answer = await fetch(place.dataset.progress, { redirect: "error" });
      const told = await answer.json();
      if (told.state !== "publishing") return window.location.reload();
      if (told.wait_s > 60) continue;
      if (bar && told.total_bytes) bar.value = Math.floor((told.done_bytes * 100) / told.total_bytes);
      if (stage && told.stage) stage.textContent = told.stage;
    } catch (error) {
      // The line is down for a moment: ask again.
    }
  }
}

function fit(frame) {
  const scale = () => {
    frame.style.transform = `scale(${frame.parentElement.clientWidth / frame.offsetWidth})`;
  };
  window.addEventListener("resize", scale);
  scale();
}
