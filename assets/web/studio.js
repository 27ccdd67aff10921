// The page's live part: which state it is in, the progress of the job, the still in the viewer's place.
// State is kept in data attributes of <html>, and assets/web/studio.css draws each. Loaded in <head>, so that the first
// paint is right already.
(() => {
  "use strict";
  const root = document.documentElement;
  const POLL_MS = 350;
  const DRAWN_AT_LATEST_MS = 8000; // after canvas and file are there, whatever the pixels say
  const GIVE_UP_MS = 120000; // then the still stays
  const REMEMBERED = "orfeas-job";
  let token = null; // of the job being watched
  let timer = 0;
  let failures = 0;

  const $ = (id) => document.getElementById(id);
  const setState = (state) => { root.dataset.job = state; };

  function hasWebGL() {
    try {
      const canvas = document.createElement("canvas");
      return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
    } catch {
      return false;
    }
  }

  function remember(value) {
    try {
      if (value) sessionStorage.setItem(REMEMBERED, value);
      else sessionStorage.removeItem(REMEMBERED);
    } catch { /* storage may be blocked: then a reload does not find the job again */ }
  }

  function recall() {
    try { return sessionStorage.getItem(REMEMBERED); } catch { return null; }
  }

  function newToken() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  // --- the job -----------------------------------------------------------------------------------------------------

  function begin() { // Generate was pressed: the page names the job, so that it can ask for its state at once
    token = newToken();
    remember(token);
    failures = 0;
    draw({ state: "waiting", message: "Sending", fraction: 0, seconds: 0 });
    const stage = $("stage");
    const place = stage && stage.getBoundingClientRect();
    if (place && (place.top > window.innerHeight * 0.5 || place.bottom < window.innerHeight * 0.5)) {
      stage.scrollIntoView({ behavior: "smooth", block: "start" });
    }
    watch();
    return token;
  }

  function resume() { // the page was loaded: was there a job?
    token = recall();
    if (token) watch();
    return token || "";
  }

  function watch() {
    clearTimeout(timer);
    timer = setTimeout(ask, POLL_MS);
  }

  async function ask(last = false) {
    if (!token) return;
    const asked = token;
    let job;
    try {
      const answer = await fetch(`jobs/${asked}`, { cache: "no-store" });
      job = answer.status === 404 ? { state: "unknown" } : await answer.json();
      failures = 0;
    } catch {
      failures += 1;
      const message = $("message");
      if (message && failures > 1) message.textContent = "The connection is lost. Trying again";
      watch();
      return;
    }
    if (asked !== token) return;
    if (job.state === "lost") job.state = "failed"; // its server ended; the sentence says so
    if (job.state === "unknown") { // not started yet, or forgotten by a restarted server
      if (!last && root.dataset.job !== "empty") { watch(); return; }
      if (last && root.dataset.job === "waiting") {
        draw({ state: "failed", error: "The server did not take this job: it may be busy. Try again in a minute." });
      }
      remember(null);
      token = null;
      return;
    }
    draw(job);
    if (["done", "failed", "cancelled"].includes(job.state)) {
      if (job.state !== "done") remember(null);
      return;
    }
    watch();
  }

  function settle() { // Gradio's event is over: whatever the last poll said, ask once more
    clearTimeout(timer);
    return ask(true);
  }

  async function stop() {
    if (!token) return;
    draw({ state: "stopping", message: "Stopping" });
    try { await fetch(`jobs/${token}/stop`, { method: "POST" }); } catch { /* the next poll tells */ }
    watch();
  }

  function draw(job) {
    setState(job.state === "waiting" && job.stage === "waiting" ? "queued" : job.state);
    const percent = Math.floor(100 * (job.fraction || 0));
    if (job.fraction !== undefined && $("percent")) {
      $("percent").textContent = percent;
      $("bar").setAttribute("aria-valuenow", percent);
      $("bar").firstElementChild.style.width = `${Math.max(percent, 1)}%`;
    }
    if (job.message && $("message") && $("message").textContent !== job.message) $("message").textContent = job.message;
    if ($("clock")) $("clock").textContent = job.seconds > 1 ? `${Math.floor(job.seconds)} s` : "";
    if (job.error && $("error")) $("error").textContent = job.error;
    const stages = Array.from(document.querySelectorAll(".stages li"));
    const at = stages.findIndex((stage) => stage.dataset.stage === job.stage);
    stages.forEach((stage, index) => {
      stage.className = at < 0 || index > at ? "" : index === at ? "now" : "past";
    });
  }

  // --- the model: a still until the canvas is there, and for good where there is no WebGL ----------------------------

  function showResult(card) {
    const address = card.dataset.files;
    if (root.classList.contains("no-webgl")) {
      buildTurntable(`${address}/turntable.webp`);
    } else {
      const poster = $("poster");
      if (!poster) return;
      root.dataset.canvas = "no";
      poster.src = `${address}/poster.webp`;
      poster.hidden = false;
      waitForCanvas();
    }
  }

  function waitForCanvas() {
    const viewer = $("viewer");
    const started = performance.now();
    let ready = 0; // when the canvas and the model's file were both there
    const look = () => {
      const now = performance.now();
      const canvas = viewer && viewer.querySelector("canvas");
      if (canvas && !ready && isFetched()) ready = now;
      if (canvas && (isDrawn(canvas) || (ready && now - ready > DRAWN_AT_LATEST_MS))) root.dataset.canvas = "yes";
      else if (now - started < GIVE_UP_MS) setTimeout(() => requestAnimationFrame(look), canvas ? 0 : 200);
    };
    // Asked for between two frames, our callback runs after the viewer's own, while the drawing buffer is still full.
    // Every frame has to be looked at: the viewer draws only when something changes.
    setTimeout(() => requestAnimationFrame(look), 200);
  }

  function isFetched() {
    return performance.getEntriesByType("resource").some((entry) => entry.name.endsWith("/preview.glb"));
  }

  function isDrawn(canvas) { // the ground is transparent, so anything opaque is the model
    const small = document.createElement("canvas");
    small.width = small.height = 24;
    const context = small.getContext("2d", { willReadFrequently: true });
    try {
      context.drawImage(canvas, 0, 0, 24, 24);
      return context.getImageData(0, 0, 24, 24).data.some((value, index) => index % 4 === 3 && value > 200);
    } catch {
      return false;
    }
  }

  function buildTurntable(source) {
    const holder = $("turntable");
    if (!holder) return;
    const strip = new Image();
    strip.onload = () => {
      const frames = Math.round(strip.naturalWidth / strip.naturalHeight);
      holder.style.backgroundImage = `url("${strip.src}")`;
      holder.style.backgroundSize = `${frames * 100}% 100%`;
      holder.setAttribute("aria-valuemax", frames - 1);
      holder.hidden = false;
      turnable(holder, frames);
    };
    strip.src = source;
  }

  function turnable(holder, frames) {
    let frame = 0;
    let from = null;
    const show = (number) => {
      frame = ((Math.round(number) % frames) + frames) % frames;
      holder.style.backgroundPosition = `${frames > 1 ? (100 * frame) / (frames - 1) : 0}% 0`;
      holder.setAttribute("aria-valuenow", frame);
    };
    holder.onpointerdown = (event) => {
      from = { x: event.clientX, frame };
      holder.setPointerCapture(event.pointerId);
    };
    holder.onpointermove = (event) => {
      if (from) show(from.frame + ((event.clientX - from.x) / holder.clientWidth) * frames);
    };
    holder.onpointerup = holder.onpointercancel = () => { from = null; };
    holder.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (step) { show(frame + step); event.preventDefault(); }
    };
    show(0);
  }

  // --- what Gradio's own parts leave to be desired for keyboard and screen reader -------------------------------------

  function nameParts() {
    for (const button of document.querySelectorAll("#examples .gallery-item:not([aria-label])")) {
      const picture = button.querySelector("img");
      if (!picture) continue;
      const file = decodeURIComponent(picture.src.split("/").pop());
      button.setAttribute("aria-label", `Example: ${file.replace(/\.\w+$/, "")}`);
    }
    for (const drop of document.querySelectorAll("#picture button.upload-container[aria-label]")) {
      drop.removeAttribute("aria-label"); // its text says more
    }
    for (const empty of document.querySelectorAll(".empty[aria-label]:not([role])")) empty.setAttribute("role", "img");
    for (const canvas of document.querySelectorAll('#viewer canvas[tabindex="1"]')) {
      canvas.tabIndex = 0;
      canvas.setAttribute("aria-label", "The model: drag to turn, scroll to come closer");
      canvas.setAttribute("role", "img");
    }
  }

  // --- start -------------------------------------------------------------------------------------------------------

  performance.setResourceTimingBufferSize(2000); // the viewer alone asks for 200 files, the default is 250
  root.classList.add(hasWebGL() ? "has-webgl" : "no-webgl");
  setState("empty");
  let shown = null;
  new MutationObserver(() => {
    nameParts();
    const card = document.querySelector(".result[data-result]");
    if (card && card.dataset.result !== shown && $("poster")) {
      shown = card.dataset.result;
      showResult(card);
    }
  }).observe(root, { childList: true, subtree: true });
  const draws = () => (root.classList.contains("no-webgl") ? "no" : "yes");
  window.orfeas = { begin, draws, resume, settle, stop };
})();
