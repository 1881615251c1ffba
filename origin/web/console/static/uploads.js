// Sending files by tus: an element with `data-upload` becomes a place to drop files on. Each file gets a row that tells
// rate, time left, SHA-256 and what was found in it. When a file is ready the element fires `uploaded` (bubbling, with
// the upload as the API tells it as `detail`), when a row is taken away `upload-removed` (with the id).
// With `data-field="files"` each ready file also puts its id into a hidden field of the form around the element.

const SAMPLE_MS = 8000;
const AT_ONCE = 2;
const ASK_MS = 700;
// One request carries so much: a proxy in between that collects whole requests still lets an upload advance.
const CHUNK_BYTES = 32 * 1024 * 1024;
const DELAYS_MS = [0, 1000, 2000, 5000, 10000, 20000, 30000, 60000, 60000, 60000, 60000, 60000];
// Trying again does not help against these.
const FINAL = [400, 401, 403, 404, 410, 412, 413, 415, 507];

const size = (bytes) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; bytes >= 1024 && at < units.length - 1; at += 1) bytes /= 1024;
  return `${at && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${units[at]}`;
};

const clock = (seconds) => {
  const whole = Math.max(0, Math.round(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const rest = `${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return hours ? `${hours}:${rest}` : rest;
};

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

// The rate over the last seconds: an average from the beginning would say for hours that the line is well.
class Rate {
  constructor() {
    this.samples = [];
  }

  take(bytes) {
    const now = performance.now();
    this.samples.push([now, bytes]);
    while (this.samples.length > 2 && now - this.samples[0][0] > SAMPLE_MS) this.samples.shift();
  }

  get() {
    if (this.samples.length < 2) return 0;
    const [first, last] = [this.samples[0], this.samples[this.samples.length - 1]];
    return last[0] > first[0] ? (1000 * (last[1] - first[1])) / (last[0] - first[0]) : 0;
  }
}

class Row {
  constructor(box, file) {
    this.box = box;
    this.file = file;
    this.texts = box.texts;
    this.rate = new Rate();
    this.state = "waiting";
    this.status = 0;
    this.id = "";
    this.build();
    this.upload = new window.tus.Upload(file, this.options());
  }

  build() {
    const part = this.box.template.content.cloneNode(true);
    this.element = part.querySelector("li");
    for (const name of ["name", "told", "sum", "bar"]) this[name] = this.element.querySelector(`[data-${name}]`);
    this.name.textContent = this.file.name;
    this.buttons = {};
    for (const name of ["pause", "go", "remove"]) {
      this.buttons[name] = this.element.querySelector(`[data-do=${name}]`);
      this.buttons[name].addEventListener("click", () => this[name]());
    }
    this.box.list.append(this.element);
    this.show("waiting", this.texts.waiting);
  }

  options() {
    return {
      endpoint: "/api/v1/uploads",
      metadata: { filename: this.file.name },
      chunkSize: CHUNK_BYTES,
      retryDelays: DELAYS_MS,
      removeFingerprintOnSuccess: true,
      fingerprint: () => Promise.resolve(this.box.fingerprint(this.file)),
      onAfterResponse: (request, response) => this.heard(request, response),
      onShouldRetry: () => {
        const again = !FINAL.includes(this.status);
        if (again) this.show("sending", this.texts.again);
        return again;
      },
      onProgress: (sent, total) => this.progress(sent, total),
      onSuccess: () => this.sent(),
      onError: () => this.failed(),
    };
  }

  // Of a HEAD that failed the library believes that the upload is gone and begins another one; only a 404 says so.
  heard(request, response) {
    this.status = response.getStatus();
    this.answer = response.getBody ? response.getBody() : "";
    if (request.getMethod() === "HEAD" && ![200, 404, 410].includes(this.status)) throw new Error("try again");
  }

  async start() {
    this.show("sending", this.texts.sending);
    const earlier = await this.upload.findPreviousUploads();
    if (this.state !== "sending") return;
    if (earlier.length) this.upload.resumeFromPreviousUpload(earlier[earlier.length - 1]);
    this.status = 0;
    this.upload.start();
  }

  progress(sent, total) {
    if (this.state !== "sending") return;
    this.rate.take(sent);
    const rate = this.rate.get();
    const values = { sent: size(sent), total: size(total), rate: size(rate), left: clock((total - sent) / rate) };
    this.bar.max = total;
    this.bar.value = sent;
    this.told.textContent = fill(rate > 0 ? this.texts.progress : this.texts.begun, values);
  }

  pause() {
    this.upload.abort();
    this.rate = new Rate();
    this.show("paused", this.texts.paused);
    this.box.next();
  }

  go() {
    this.status = 0;
    this.show("waiting", this.texts.waiting);
    this.box.next();
  }

  async remove() {
    const id = this.id || this.url();
    this.upload.abort();
    this.state = "removed";
    this.element.remove();
    this.box.forget(this);
    if (id) await fetch(`/api/v1/uploads/${id}`, { method: "DELETE" });
    const stored = await this.upload.findPreviousUploads();
    for (const one of stored) window.localStorage.removeItem(one.urlStorageKey);
  }

  url() {
    return this.upload.url ? this.upload.url.replace(/^.*\//, "") : "";
  }

  failed() {
    this.rate = new Rate();
    let why = this.texts.broken;
    if (this.status === 401) why = this.texts.signed_out;
    else if (FINAL.includes(this.status)) {
      try {
        const told = JSON.parse(this.answer);
        why = this.texts.language === "en" ? told.error : told.error_zh;
      } catch (error) {
        why = this.texts.broken;
      }
    }
    this.show("broken", why);
    this.box.next();
  }

  sent() {
    this.id = this.url();
    this.bar.max = this.bar.value = this.file.size;
    this.show("checking", this.texts.checking);
    this.box.next();
    this.ask();
  }

  async ask() {
    let told = null;
    try {
      const answer = await fetch(`/api/v1/uploads/${this.id}`, { redirect: "error" });
      if (answer.ok) told = await answer.json();
      else if (answer.status < 500) return this.show("broken", this.texts.broken);
    } catch (error) {
      told = null; // the line; it is asked again
    }
    if (this.state !== "checking") return undefined;
    if (!told || told.state === "checking") return setTimeout(() => this.ask(), ASK_MS);
    if (told.sha256) this.sum.textContent = told.sha256;
    if (told.state === "refused") {
      return this.show("refused", this.texts.language === "en" ? told.reason : told.reason_zh);
    }
    const kind = this.texts[`kind.${told.finding.kind}`] || told.finding.kind;
    const long = told.finding.duration_s ? ` · ${clock(told.finding.duration_s)}` : "";
    this.show("ready", `${this.texts.ready} · ${kind}${long} · ${size(told.size_bytes)}`);
    return this.box.ready(this, told);
  }

  show(state, text) {
    this.state = state;
    this.element.dataset.state = state;
    this.told.textContent = text;
    this.bar.hidden = ["ready", "refused"].includes(state);
    this.sum.parentElement.hidden = !this.sum.textContent;
    this.buttons.pause.hidden = state !== "sending";
    this.buttons.go.hidden = !["paused", "broken"].includes(state);
  }
}

class Box {
  constructor(element) {
    this.element = element;
    this.texts = JSON.parse(element.dataset.texts);
    this.account = element.dataset.account;
    this.template = element.querySelector("template");
    this.list = element.querySelector("[data-list]");
    this.rows = [];
    this.note = element.querySelector("[data-note]");
    const form = element.closest("form");
    if (form && element.dataset.field) form.addEventListener("submit", (event) => this.check(event));
    const input = element.querySelector("input[type=file]");
    input.addEventListener("change", () => {
      this.take(input.files);
      input.value = "";
    });
    for (const kind of ["dragenter", "dragover"]) {
      element.addEventListener(kind, (event) => {
        event.preventDefault();
        element.classList.add("over");
      });
    }
    element.addEventListener("dragleave", (event) => {
      if (!element.contains(event.relatedTarget)) element.classList.remove("over");
    });
    element.addEventListener("drop", (event) => {
      event.preventDefault();
      element.classList.remove("over");
      this.take(event.dataTransfer.files);
    });
    element.classList.add("live");
  }

  // Another person at this browser has other uploads.
  fingerprint(file) {
    return ["yj", this.account, file.name, file.size, file.lastModified].join("|");
  }

  take(files) {
    for (const file of files) {
      const known = this.rows.some((row) => this.fingerprint(row.file) === this.fingerprint(file));
      if (!known) this.rows.push(new Row(this, file));
    }
    this.next();
  }

  next() {
    const busy = this.rows.filter((row) => row.state === "sending").length;
    const waiting = this.rows.filter((row) => row.state === "waiting");
    for (const row of waiting.slice(0, Math.max(0, AT_ONCE - busy))) row.start();
  }

  forget(row) {
    this.rows = this.rows.filter((one) => one !== row);
    if (row.id) this.element.dispatchEvent(new CustomEvent("upload-removed", { bubbles: true, detail: row.id }));
    this.next();
  }

  ready(row, told) {
    if (this.element.dataset.field) {
      const field = document.createElement("input");
      field.type = "hidden";
      field.name = this.element.dataset.field;
      field.value = told.id;
      row.element.append(field);
    }
    this.element.dispatchEvent(new CustomEvent("uploaded", { bubbles: true, detail: told }));
  }

  // A form that takes the files with it waits for them.
  check(event) {
    const open = this.rows.some((row) => !["ready", "refused"].includes(row.state));
    this.note.hidden = !open;
    if (!open) return;
    this.note.textContent = this.texts.unfinished;
    event.preventDefault();
    event.stopPropagation();
    this.element.scrollIntoView({ block: "center" });
  }

  isBusy() {
    return this.rows.some((row) => ["waiting", "sending"].includes(row.state));
  }
}

const boxes = [];
for (const element of document.querySelectorAll("[data-upload]")) {
  if (window.tus && window.tus.isSupported) boxes.push(new Box(element));
  else element.classList.add("lame");
}
window.addEventListener("online", () => {
  for (const box of boxes) for (const row of box.rows) if (row.state === "broken" && row.status !== 401) row.go();
});
window.addEventListener("beforeunload", (event) => {
  if (boxes.some((box) => box.isBusy())) event.preventDefault();
});
// A file that misses the box must not take the place of the page.
for (const kind of ["dragover", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (event.dataTransfer && [...event.dataTransfer.types].includes("Files")) event.preventDefault();
  });
}
