// The studio's live part: the job and its progress, the picture and its cutout. State is kept in data attributes of
// <html>, and assets/web/studio.css draws each.
(() => {
  "use strict";
  const root = document.documentElement;
  const POLL_MS = 350;
  const DOUBLE_PRESS_MS = 500;
  const SHOWN = window.orfeas.keyOf("orfeas-shown");
  const REMEMBERED = window.orfeas.keyOf("orfeas-job");
  let token = null; // of the job being watched
  let timer = 0;
  let failures = 0;
  let stopping = false; // Stop was pressed
  let begun = -Infinity; // when Generate was pressed last
  let delivering = false; // Gradio's event of it is not over: it takes no other press, and would take the next job for its own
  let wasCutOff = false; // the connection was lost while the job ran
  let done = ""; // the result of the job
  let ended = ""; // the token of the job whose end was drawn: what is on the stage since then stays
  let resumed = ""; // the token of the job that was found again after a reload
  let returning = ""; // that token while its picture and options are still to come back
  let keepsSide = false; // the next picture comes with its result, which stays in sight
  let behind = ""; // the token of this page's own job, while another result is looked at
  let isHeld = false; // Generate was pressed, and waits for the picture
  let wanted = {}; // the result that is to be made again, and what is to change

  const $ = (id) => document.getElementById(id);
  const setState = (state) => {
    root.dataset.job = state;
    holdAgain();
  };
  const isBusy = () => ["waiting", "queued", "running", "stopping"].includes(root.dataset.job);

  function remember(value, key = REMEMBERED) {
    try {
      if (value) sessionStorage.setItem(key, value);
      else sessionStorage.removeItem(key);
    } catch { /* storage may be blocked: then a reload does not find the job again */ }
  }

  function recall(key = REMEMBERED) {
    try { return sessionStorage.getItem(key); } catch { return null; }
  }

  function newToken() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  // --- the job -----------------------------------------------------------------------------------------------------

  // Generate was pressed: the page names the job, so that it can ask for its state at once. seed: where one can be typed
  function begin(seed) {
    token = newToken();
    returning = "";
    remember(seed === undefined || `${seed ?? ""}`.trim() ? token : `${token} random`);
    failures = 0;
    stopping = wasCutOff = false;
    delivering = true;
    begun = performance.now();
    done = ended = "";
    note("");
    show("model");
    draw({ state: "waiting", message: "Sending", fraction: 0, seconds: 0 });
    const stage = $("stage");
    const place = stage && stage.getBoundingClientRect();
    if (place && (place.top > window.innerHeight * 0.5 || place.bottom < window.innerHeight * 0.5)) reveal("start");
    watch();
    return token;
  }

  function reveal(block) { // on a phone the stage may be out of sight
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    $("stage").scrollIntoView({ behavior: calm ? "auto" : "smooth", block });
  }

  function resume() { // the page was loaded: was there a job? Not if Generate was pressed already
    returning = token ? "" : recall() ?? "";
    [resumed] = returning.split(" ");
    if (resumed) {
      token = resumed;
      watch();
    }
    return resumed;
  }

  function open(value) { // a job of the list is to be shown: it is found as after a reload
    if (delivering && isBusy() && !behind) behind = token;
    if (behind === value) behind = "";
    token = resumed = value;
    ended = "";
    note("");
    remember(value);
    failures = 0;
    stopping = false;
    watch();
    return value;
  }

  function watch() {
    clearTimeout(timer);
    timer = setTimeout(ask, POLL_MS * 2 ** Math.min(failures, 3)); // a busy server is not asked more often
  }

  async function ask(last = false) {
    if (!token) return;
    const asked = token;
    let job;
    try {
      const answer = await fetch(`jobs/${asked}`, { cache: "no-store" });
      if (answer.status === 401) { // logged out: the server shows its login
        location.reload();
        return;
      }
      if (!answer.ok && answer.status !== 404) throw new Error(`status ${answer.status}`);
      job = answer.ok ? await answer.json() : { state: "unknown" };
      failures = 0;
    } catch {
      failures += 1;
      wasCutOff = true;
      const message = $("message");
      if (message && failures > 1) message.textContent = "The connection is lost. Trying again";
      watch();
      return;
    }
    if (asked !== token || asked === ended) return;
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
    if (stopping && ["waiting", "running"].includes(job.state)) { // stopped before the server knew of it
      stop();
      return;
    }
    bringBack();
    if (job.state === "done" && job.expired) {
      clear("gone");
      return;
    }
    draw(job);
    if (["done", "failed", "cancelled"].includes(job.state)) end(job);
    else watch();
  }

  function end(job) {
    ended = token;
    done = job.state === "done" ? job.result : "";
    if (done) remember(recall(), SHOWN);
    else remember(recall(SHOWN)); // what a reload then finds is the model from before
    if (job.state === "cancelled" && (backToModel() || fetchModel())) note("Stopped. This is the model from before.");
    else if (wasCutOff) collect();
  }

  function fetchModel() { // of the job before this one, where a reload took it from the stage; whether there is one
    const before = (recall(SHOWN) ?? "").split(" ")[0];
    if (!before) return false;
    token = resumed = before;
    ended = "";
    $("collect").click();
    return true;
  }

  function backToModel() { // the one of an earlier job, if there is one; whether there is
    if (root.dataset.model !== "yes" || isBusy()) return false;
    setState("done");
    return true;
  }

  function note(sentence) { // one line over the model
    if ($("stage-note")) $("stage-note").textContent = sentence;
  }

  function forgive() { // what was refused is no longer what is being done
    if (["failed", "told"].includes(root.dataset.job) && !backToModel()) setState("empty");
  }

  // A sentence in the place of the model, to which the Model tab leads back: no job is in this state.
  function tell(title, sentence) {
    $("told-title").textContent = title;
    $("told").textContent = sentence;
    note("");
    if (!isBusy()) setState("told");
    show("model");
    if (matchMedia("(max-width: 760px)").matches) reveal("nearest");
  }

  function bringBack() { // what a reload took from the page; not over a picture that was chosen meanwhile
    if (returning && !document.querySelector("#picture .image-frame img")) window.orfeas.history.restore(returning, "return");
    returning = "";
  }

  function settleResumed() {
    return resumed && resumed === token ? askLast() : null;
  }

  async function settle() { // Gradio's event of this page's own job is over: what it made is on the stage now
    const wasBehind = behind !== "";
    if (wasBehind) token = behind;
    behind = "";
    await askLast();
    delivering = false;
    if (wasBehind && done) note("Your new model is here.");
  }

  async function askLast() { // whatever the last poll said
    clearTimeout(timer);
    await ask(true);
    collect();
  }

  // A result is delivered with the end of Gradio's event. Where that was lost with the connection, it is fetched here.
  function collect() {
    const asked = token;
    if (!done || root.dataset.job !== "done") return;
    window.orfeas.whenThere(() => window.orfeas.shown() === done, 2).then((isThere) => {
      if (!isThere && asked === token) $("collect").click();
    });
  }

  function clear(state = "empty") { // the result that is shown was deleted; "gone": not here
    if (!isBusy()) {
      remember(null);
      remember(null, SHOWN);
      token = null;
      done = "";
      setState(state);
      show("model");
    }
    $("clear").click();
  }

  async function stop() {
    if (!token) return;
    stopping = true;
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
    document.title = job.state === "running" ? `${percent} % · ORFEAS` : "ORFEAS"; // for who reads something else
    if (job.message && $("message") && $("message").textContent !== job.message) $("message").textContent = job.message;
    if ($("clock")) $("clock").textContent = clockOf(job);
    if (job.ahead && $("ahead")) $("ahead").textContent = job.ahead;
    if (job.error && $("error")) $("error").textContent = job.error;
    const stages = Array.from(document.querySelectorAll(".stages li"));
    const at = stages.findIndex((stage) => stage.dataset.stage === job.stage);
    stages.forEach((stage, index) => {
      stage.className = at < 0 || index > at ? "" : index === at ? "now" : "past";
    });
  }

  function clockOf(job) {
    const parts = job.seconds > 1 ? [`${Math.floor(job.seconds)} s`] : [];
    if (job.left) {
      const jobs = job.left.jobs === 1 ? "the last job here" : `the last ${job.left.jobs} jobs here`;
      parts.push(job.left.seconds > 0 ? `about ${nice(job.left.seconds)} left, from ${jobs}` : `should be done by now, going by ${jobs}`);
    }
    return parts.join(" · ");
  }

  const nice = (seconds) => (seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`);

  // --- picture and cutout ------------------------------------------------------------------------------------------

  document.addEventListener("click", (event) => { // a tap is seen at once; what it changes comes from the server
    const image = event.target.closest?.("#cutout-view img");
    if (!image) return;
    const place = $("cutout-view").getBoundingClientRect();
    const dot = window.orfeas.element("span", { className: "tapped", title: "Finding the subject" });
    dot.style.left = `${event.clientX - place.x}px`;
    dot.style.top = `${event.clientY - place.y}px`;
    $("cutout-view").append(dot);
    const old = image.src;
    const isAnswered = () => document.querySelector("#cutout-view img")?.src !== old;
    window.orfeas.whenThere(isAnswered, 60).then(() => dot.remove());
  }, true);

  let picture = ""; // the one that is chosen, by its address
  let letGo = ""; // the one that is taken away again, as it cannot be used

  function follow() { // which of the stage's two sides there are, and which one to show
    const chosen = document.querySelector("#picture .image-frame img")?.src ?? "";
    const isCut = chosen.includes(`/${document.querySelector("#explanation [data-picture]")?.dataset.picture}/`);
    if (chosen !== picture) {
      picture = chosen;
      root.dataset.cutout = chosen ? "working" : "no";
      const isNew = chosen && !keepsSide;
      keepsSide = false;
      if (chosen && root.dataset.job === "told" && !backToModel()) setState("empty");
      show(isNew ? "cutout" : "model");
      if (isNew && matchMedia("(max-width: 760px)").matches) reveal("nearest");
    }
    const unusable = isCut && chosen !== letGo && document.querySelector("#explanation [data-unusable]");
    if (unusable) {
      letGo = chosen;
      tell("Choose another picture", unusable.textContent);
      document.querySelector('#picture button[aria-label="Remove Image"]')?.click();
    } else if (root.dataset.cutout === "working" && isCut) root.dataset.cutout = "yes";
    for (const button of document.querySelectorAll('#switch-show [data-value="cutout"]')) {
      button.disabled = root.dataset.cutout === "no";
    }
    holdAgain();
  }

  function keepSide(keeps) {
    keepsSide = keeps;
  }

  function holdAgain() { // one job at a time is watched: "Make it again" waits for its end, and says so
    for (const button of document.querySelectorAll('[data-do="again"]')) {
      button.setAttribute("aria-disabled", String(isBusy()));
      button.title = isBusy() ? "A job is running: wait until it is done, or stop it." : "";
    }
  }

  function show(side) {
    root.dataset.show = side;
    window.orfeas.press("show", side);
  }

  // --- a job that is not let in ------------------------------------------------------------------------------------

  // Gradio puts a sentence of its own in the place of whatever an answer with 503 says, so its answers are read here.
  const { fetch: send } = window;
  window.fetch = async (address, options) => {
    const answer = await send(address, options);
    const isJoin = String(address?.url ?? address).includes("/queue/join");
    if (answer.ok || !isJoin || !token || !String(options?.body).includes(token) || root.dataset.job !== "waiting") return answer;
    const said = await answer.clone().json().catch(() => ({}));
    const sentence = said.error || said.detail;
    if (typeof sentence !== "string") return answer;
    clearTimeout(timer);
    remember(null);
    token = null;
    draw({ state: "failed", error: sentence });
    // under another status Gradio shows this sentence too
    return answer.status === 503 ? new Response(JSON.stringify(said), { status: 500, headers: answer.headers }) : answer;
  };

  // --- presses that come too soon ----------------------------------------------------------------------------------

  const hasPicture = () => document.querySelector("#picture .image-frame img") !== null;
  const isSending = () => document.querySelector("#picture .uploading") !== null;

  document.addEventListener("click", (event) => { // a script presses it once the picture is on its way
    if (!event.isTrusted || !event.target.closest?.("#generate") || hasPicture()) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (isSending()) pressLater();
    else tell("Choose a picture first", "Drop one on the page, or take one of the examples.");
  }, true);

  async function pressLater() { // the picture is still on its way
    if (isHeld) return;
    isHeld = true;
    tell("The picture is on its way", "Your model is begun as soon as it is here.");
    await window.orfeas.whenThere(() => hasPicture() || !isSending(), 600);
    isHeld = false;
    if (hasPicture()) $("generate").click();
    else tell("The picture did not arrive", "Choose it again.");
  }

  // The second press of two is none at Stop, which stands where Generate stood. One that comes between the end of a job
  // and that of Gradio's event waits for it; where that end was lost with the connection, not for long.
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.('#generate, #stop, [data-do="again"]');
    if (!button || (isBusy() && button.id !== "stop")) return;
    const isSecond = event.detail > 1 && performance.now() - begun < DOUBLE_PRESS_MS;
    if (button.id === "stop" ? !isSecond : !delivering) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (button.id === "stop") return;
    if (behind) pressBehind(button);
    else window.orfeas.whenThere(() => !delivering, 3).then(() => press(button));
  }, true);

  function press(button) {
    delivering = false;
    if (button.id) button.click();
    else window.orfeas.actions.again(button); // its card may have gone meanwhile
  }

  async function pressBehind(button) { // another result is looked at: does this page's own job still run?
    const job = await fetch(`jobs/${behind}`, { cache: "no-store" }).then((answer) => answer.json()).catch(() => ({}));
    if (["done", "failed", "cancelled", "lost", "unknown"].includes(job.state)) {
      behind = "";
      press(button);
    } else tell("Your job is still running", "It is in the list below: wait until it is done, or stop it there.");
  }

  // --- start -------------------------------------------------------------------------------------------------------

  setState("empty");
  Object.assign(root.dataset, { cutout: "no", show: "model" });
  new MutationObserver(follow).observe(root, {
    childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ["src"],
  });
  window.orfeas.actions.show = (button) => {
    if (button.dataset.value === "model" && ["failed", "told", "cancelled"].includes(root.dataset.job)) backToModel();
    show(button.dataset.value);
  };
  window.orfeas.actions.again = (button) => {
    if (isBusy()) return;
    wanted = { result: button.dataset.result, change: button.dataset.change ?? "" };
    $("again").click();
  };
  Object.assign(window.orfeas, { begin, again: () => [wanted.result, wanted.change], resume, open, settle, settleResumed, stop, show, tell, forgive, keepSide, clear, token: () => token ?? "" });
})();
