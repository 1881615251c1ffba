/* Arrow keys over the whole page, and the player. ES5 only: old set-top boxes know nothing newer. */
(function () {
  "use strict";

  var OK = 13, LEFT = 37, UP = 38, RIGHT = 39, DOWN = 40;
  /* Backspace, Escape, LG, Samsung, Android */
  var BACK = { 8: 1, 27: 1, 461: 1, 10009: 1, 4: 1 };
  var PLAY = { 179: 1, 415: 1, 19: 1, 10252: 1 }, REWIND = 412, FORWARD = 417;
  var SEEK_S = 10, VOLUME_STEP = 0.1, IDLE_MS = 4000;

  function byId(id) { return document.getElementById(id); }

  function each(list, act) {
    for (var i = 0; i < list.length; i++) { act(list[i], i); }
  }

  function setClass(element, name, on) {
    var others = (" " + element.className + " ").split(" " + name + " ").join(" ").trim();
    element.className = on ? (others + " " + name).trim() : others;
  }

  /* ---- spatial navigation: strictly beyond the edge in that direction, nearest by gap, offset and overlap ---- */

  function gapTo(from, to, code) {
    if (code === LEFT) { return from.left - to.right; }
    if (code === RIGHT) { return to.left - from.right; }
    if (code === UP) { return from.top - to.bottom; }
    return to.top - from.bottom;
  }

  function score(from, to, code) {
    var gap = gapTo(from, to, code), sideways = code === LEFT || code === RIGHT;
    var offset, apart;
    if (gap < -4) { return -1; }
    if (sideways) {
      offset = Math.abs((from.top + from.bottom) / 2 - (to.top + to.bottom) / 2);
      apart = Math.max(0, to.top - from.bottom, from.top - to.bottom);
      if (apart > 0) { return -1; }
    } else {
      offset = Math.abs((from.left + from.right) / 2 - (to.left + to.right) / 2);
      apart = Math.max(0, to.left - from.right, from.left - to.right);
    }
    return 2 * Math.max(gap, 0) + offset + 3 * apart;
  }

  function move(code) {
    var now = document.activeElement, best = null, bestScore = Infinity, from;
    var all = document.querySelectorAll("[data-f], .text a");
    if (!now || now === document.body) { focusFirst(); return; }
    from = now.getBoundingClientRect();
    each(all, function (one) {
      var box = one.getBoundingClientRect(), points;
      if (one === now || now.contains(one) || !box.width) { return; }
      points = score(from, box, code);
      if (points >= 0 && points < bestScore) { bestScore = points; best = one; }
    });
    if (best) { show(best); }
  }

  function show(element) {
    var box;
    element.focus({ preventScroll: true });
    box = element.getBoundingClientRect();
    if (box.top < 40) {
      window.scrollBy(0, box.top - 60);
    } else if (box.bottom > window.innerHeight - 20 && (box.height < window.innerHeight || box.top > window.innerHeight / 2)) {
      window.scrollBy(0, Math.min(box.bottom - window.innerHeight + 60, box.top - 60));
    }
  }

  /* A long article is read with the same keys that leave it: scroll until its end is seen, then move on. */
  function scrollsInside(code) {
    var now = document.activeElement, box;
    if (!now || !now.hasAttribute || !now.hasAttribute("data-scroll")) { return false; }
    box = now.getBoundingClientRect();
    if (code === DOWN && box.bottom > window.innerHeight) { window.scrollBy(0, window.innerHeight * 0.7); return true; }
    if (code === UP && box.top < 0) { window.scrollBy(0, -window.innerHeight * 0.7); return true; }
    return false;
  }

  /* Old boxes and private windows have no storage: then nothing is kept. */
  function keep(key, value) {
    try { sessionStorage.setItem(key, value); } catch (ignored) { return; }
  }

  function kept(key) {
    try { return sessionStorage.getItem(key); } catch (ignored) { return null; }
  }

  /* Where the focus was on this page, and to which page the next one leads back. */
  function remember(event) {
    var here = location.pathname + location.search, link = event.target;
    keep("focus:" + here, document.activeElement && document.activeElement.getAttribute("href") || "");
    while (link && link.nodeName !== "A") { link = link.parentNode; }
    if (link && link.pathname !== location.pathname && byId("main").contains(link)) { keep("back:" + link.pathname, here); }
  }

  function wayBack() {
    var back = kept("back:" + location.pathname), link = byId("back");
    if (back && link) {
      link.href = back;
      document.body.setAttribute("data-back", back);
    }
  }

  function focusFirst() {
    var before = kept("focus:" + location.pathname + location.search), found = null;
    if (before) {
      each(document.querySelectorAll("main [data-f]"), function (one) {
        if (!found && one.getAttribute("href") === before) { found = one; }
      });
    }
    found = found || document.querySelector("[data-first]") || document.querySelector("main [data-f]") ||
      document.querySelector("[data-f]");
    if (found) { show(found); }
  }

  function goBack() {
    var target = document.body.getAttribute("data-back");
    if (target) { location.href = target; }
  }

  function pressPageKey(code) {
    var link = document.querySelector("[data-key='" + code + "']");
    if (link) { location.href = link.href; return true; }
    return false;
  }

  /* ---- player ---- */

  function clock(seconds) {
    var whole = Math.floor(seconds || 0), h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60, s = whole % 60;
    return (h ? h + ":" : "") + (m < 10 ? "0" : "") + m + ":" + (s < 10 ? "0" : "") + s;
  }

  function fullscreenElement() {
    return document.fullscreenElement || document.webkitFullscreenElement || null;
  }

  function Player(box, video) {
    this.box = box;
    this.video = video;
    this.words = { waiting: box.getAttribute("data-waiting"), failed: box.getAttribute("data-failed"),
      play: box.getAttribute("data-play"), pause: box.getAttribute("data-pause") };
    this.timer = null;
    this.wanted = null;
    this.meant = false;  /* to play, as the person last said: a way that fails may leave the video paused */
    this.ways = box.getAttribute("data-hls") && window.yuanjiaoWays ? window.yuanjiaoWays(box, video) : null;
    video.removeAttribute("controls");
    byId("controls").hidden = false;
    byId("big").hidden = false;
    this.listen();
    if (this.ways) { this.takeNext(); }
    this.draw();
  }

  Player.prototype.length = function () {
    var length = this.video.duration;
    return isFinite(length) ? length : 0;
  };

  Player.prototype.toggle = function () {
    var video = this.video;
    if (video.error) { this.retry(); return; }
    if (video.paused || video.ended) { this.play(); } else { this.meant = false; video.pause(); }
  };

  Player.prototype.retry = function () {
    var video = this.video, at = video.currentTime;
    this.wanted = at > 0 ? at : null;
    if (this.ways) { this.ways.list(); this.takeNext(); } else { video.load(); }
    this.play();
  };

  /* The next way to play from where it is; false when none is left. */
  Player.prototype.takeNext = function () {
    var self = this, at = this.video.currentTime;
    if (at > 0) { this.wanted = at; }
    if (!this.ways.next(function () { self.fail(); })) { return false; }
    if (this.meant) { this.play(); }
    return true;
  };

  Player.prototype.fail = function () {
    if (this.ways && this.takeNext()) { return; }
    this.say(this.words.failed);
    this.draw();
  };

  /* Newer browsers promise to play; when they cannot, the video's own "error" or "pause" tells it here. */
  Player.prototype.play = function () {
    var promise = this.video.play();
    this.meant = true;
    if (promise && promise["catch"]) { promise["catch"](function () { return; }); }
  };

  Player.prototype.seek = function (to) {
    var length = this.length();
    if (!length) { return; }
    this.video.currentTime = Math.max(0, Math.min(to, length - 0.2));
    this.wake();
    this.draw();
  };

  Player.prototype.louder = function (step) {
    var video = this.video, to = Math.max(0, Math.min(1, video.volume + step));
    video.muted = false;
    video.volume = Math.round(to * 10) / 10;
    this.wake();
  };

  Player.prototype.fullscreen = function () {
    var box = this.box, video = this.video;
    if (fullscreenElement()) {
      (document.exitFullscreen || document.webkitExitFullscreen).call(document);
    } else if (box.requestFullscreen || box.webkitRequestFullscreen) {
      (box.requestFullscreen || box.webkitRequestFullscreen).call(box);
    } else if (video.webkitEnterFullscreen) {
      video.webkitEnterFullscreen();
    }
  };

  Player.prototype.say = function (text) {
    var notice = byId("notice");
    notice.textContent = text || "";
    notice.hidden = !text;
  };

  Player.prototype.wake = function () {
    var self = this;
    setClass(this.box, "idle", false);
    clearTimeout(this.timer);
    this.timer = setTimeout(function () {
      if (!self.video.paused) { setClass(self.box, "idle", true); }
    }, IDLE_MS);
  };

  Player.prototype.draw = function () {
    var video = this.video, length = this.length(), at = video.currentTime, seek = byId("seek"), ahead = 0;
    var paused = video.paused || video.ended;
    setClass(this.box, "playing", !paused);
    setClass(this.box, "muted", video.muted || video.volume === 0);
    byId("big").hidden = !paused || !!video.error;
    byId("toggle").setAttribute("aria-label", paused ? this.words.play : this.words.pause);
    byId("time").textContent = clock(at) + " / " + clock(length);
    byId("done").style.width = (length ? 100 * at / length : 0) + "%";
    if (length && video.buffered.length) { ahead = video.buffered.end(video.buffered.length - 1); }
    byId("loaded").style.width = (length ? 100 * ahead / length : 0) + "%";
    byId("volume").style.width = (video.muted ? 0 : 100 * video.volume) + "%";
    seek.setAttribute("aria-valuemax", Math.round(length));
    seek.setAttribute("aria-valuenow", Math.round(at));
    seek.setAttribute("aria-valuetext", clock(at));
  };

  Player.prototype.listen = function () {
    var self = this, video = this.video;
    var events = ["play", "pause", "ended", "timeupdate", "progress", "durationchange", "volumechange", "seeked"];
    function on(element, name, act) { element.addEventListener(name, act, false); }
    each(events, function (name) { on(video, name, function () { self.draw(); }); });
    on(video, "play", function () { self.wake(); });
    on(video, "pause", function () { self.wake(); });
    on(video, "waiting", function () { self.say(self.words.waiting); });
    each(["playing", "canplay", "seeked"], function (name) { on(video, name, function () { self.say(""); }); });
    on(video, "loadedmetadata", function () {
      if (self.wanted !== null) { self.seek(self.wanted); self.wanted = null; }
    });
    on(video, "error", function () {
      if (!self.ways || !self.ways.isScript()) { self.fail(); }
    });
    on(video, "click", function () { self.box.focus(); self.toggle(); });
    on(this.box, "mousemove", function () { self.wake(); });
    on(this.box, "touchstart", function () { self.wake(); });
    on(byId("big"), "click", function () { self.box.focus(); self.toggle(); });
    on(byId("toggle"), "click", function () { self.toggle(); });
    on(byId("rewind"), "click", function () { self.seek(video.currentTime - SEEK_S); });
    on(byId("forward"), "click", function () { self.seek(video.currentTime + SEEK_S); });
    on(byId("mute"), "click", function () { video.muted = !video.muted; });
    on(byId("fullscreen"), "click", function () { self.fullscreen(); });
    on(byId("seek"), "click", function (event) {
      var rail = byId("seek").getBoundingClientRect();
      self.seek(self.length() * (event.clientX - rail.left) / rail.width);
    });
  };

  /* True when the key was the player's. While paused, up leaves it and down goes to its buttons. */
  Player.prototype.press = function (code) {
    var now = document.activeElement;
    if (PLAY[code]) { this.toggle(); return true; }
    if (code === REWIND || code === FORWARD) {
      this.seek(this.video.currentTime + (code === FORWARD ? SEEK_S : -SEEK_S));
      return true;
    }
    if (now !== this.box) { return this.pressInside(code, now); }
    this.wake();
    if (code === LEFT || code === RIGHT) {
      this.seek(this.video.currentTime + (code === RIGHT ? SEEK_S : -SEEK_S));
      return true;
    }
    if (code === OK || code === 32) { this.toggle(); return true; }
    if ((code === UP || code === DOWN) && !this.video.paused) {
      this.louder(code === UP ? VOLUME_STEP : -VOLUME_STEP);
      return true;
    }
    if (code === DOWN) { byId("toggle").focus(); return true; }
    return false;
  };

  /* On one of the buttons: up goes back to the picture, the rest is as everywhere on the page. */
  Player.prototype.pressInside = function (code, now) {
    if (!this.box.contains(now)) { return false; }
    this.wake();
    if (code === UP) { this.box.focus(); return true; }
    return false;
  };

  /* ---- start ---- */

  var box = byId("player"), video = byId("video");
  var player = box && video && video.play ? new Player(box, video) : null;

  document.addEventListener("keydown", function (event) {
    var code = event.keyCode, done = true;
    if (event.ctrlKey || event.altKey || event.metaKey) { return; }
    /* In a field these are for the text. */
    if (event.target.tagName === "INPUT" && (code === LEFT || code === RIGHT || code === 8)) { return; }
    if (player && player.press(code)) {
      done = true;
    } else if (code >= LEFT && code <= DOWN) {
      if (!scrollsInside(code)) { move(code); }
    } else if (BACK[code] || event.key === "GoBack") {
      if (fullscreenElement()) { player.fullscreen(); } else { goBack(); }
    } else if (code === 33 || code === 34) {
      done = pressPageKey(code);
    } else {
      done = false;
    }
    if (done) { event.preventDefault(); }
  }, false);

  document.addEventListener("click", remember, true);

  /* A poster that is not here leaves the coloured field with the kind's name. */
  each(document.querySelectorAll("img[data-poster]"), function (image) {
    function drop() { if (image.parentNode) { image.parentNode.removeChild(image); } }
    if (image.complete && !image.naturalWidth) { drop(); } else { image.addEventListener("error", drop, false); }
  });

  wayBack();
  focusFirst();
}());
