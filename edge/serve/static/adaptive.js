/* The ways in which a video with several renditions can play: hls.js, the browser's own HLS, the plain file; when one
   fails, the next, from the same moment on. ES5 only, as portal.js. */
(function () {
  "use strict";

  var TYPE = "application/vnd.apple.mpegurl";

  function Ways(box, video) {
    this.video = video;
    this.address = box.getAttribute("data-hls");
    this.file = video.getAttribute("src");
    this.quality = document.getElementById("quality");
    this.script = null;
    this.left = [];
    this.list();
  }

  /* canPlayType says "maybe" also where playback then fails, so that nothing is left out for good. */
  Ways.prototype.list = function () {
    this.left = ["file"];
    if (this.video.canPlayType(TYPE)) { this.left.unshift("native"); }
    if (window.Hls && window.Hls.isSupported()) { this.left.unshift("script"); }
  };

  /* Take the next way; false when there is none left. `failed` is called when it fails without an error of the video. */
  Ways.prototype.next = function (failed) {
    var way = this.left.shift(), video = this.video;
    if (!way) { return false; }
    this.drop();
    video.setAttribute("data-way", way);
    if (way === "script") {
      this.play(failed);
    } else {
      video.src = way === "native" ? this.address : this.file;
      video.load();
    }
    return true;
  };

  /* While hls.js plays, it says itself what is beyond mending. */
  Ways.prototype.isScript = function () { return this.script !== null; };

  Ways.prototype.drop = function () {
    if (this.script) { this.script.destroy(); this.script = null; }
    this.quality.hidden = true;
    this.video.removeAttribute("src");
  };

  Ways.prototype.play = function (failed) {
    /* A worker would need a policy that lets scripts be made at run time. A terminal is near its edge: it begins with what
       2 Mbit/s carry, and goes up or down after the first segment. */
    var hls = new window.Hls({ enableWorker: false, testBandwidth: false, abrEwmaDefaultEstimate: 2000000 });
    var quality = this.quality, mended = false;
    this.script = hls;
    hls.on(window.Hls.Events.ERROR, function (name, what) {
      if (!what.fatal) { return; }
      if (what.type === window.Hls.ErrorTypes.MEDIA_ERROR && !mended) {
        mended = true;
        hls.recoverMediaError();
      } else {
        failed();
      }
    });
    hls.on(window.Hls.Events.LEVEL_SWITCHED, function (name, what) {
      quality.textContent = hls.levels[what.level].height + "p";
      quality.hidden = false;
    });
    hls.loadSource(this.address);
    hls.attachMedia(this.video);
  };

  window.yuanjiaoWays = function (box, video) { return new Ways(box, video); };
}());
