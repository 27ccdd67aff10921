// Two results compared: turned together, in viewers like the stage's or, without WebGL, as stills that the server drew;
// below them, what differs.
(() => {
  "use strict";
  const { element } = window.orfeas;
  const FRAMES = 24; // of a turntable
  const STILLS = "Drag to turn both.";
  const ROWS = [
    ["Faces", ({ report }) => report.faces.toLocaleString("en")],
    ["Size, mm", ({ report }) => report.extents_mm.map((side) => side.toFixed(1)).join(" × ")],
    ["Volume, cm³", ({ report }) => report.volume_cm3.toFixed(1)],
    ["Verdict", ({ report }) => report.verdict],
    ["Made in", ({ facts }) => `${facts.seconds.total.toFixed(1)} s`],
    ["Quality", ({ request }) => request.quality],
    ["Seed", ({ request }) => String(request.seed)],
  ];
  const AT_REST = {
    inertialAlphaOffset: 0, inertialBetaOffset: 0, inertialRadiusOffset: 0, inertialPanningX: 0, inertialPanningY: 0,
  };
  let viewers = []; // of both sides, once both are drawn: { view, viewer, details, middle }
  let leader = null; // the one that was touched last: the other follows it
  let asked = 0; // a viewer that comes after the dialog was closed, or another pair was asked for, is dropped

  const $ = (id) => document.getElementById(id);
  const views = () => Array.from(document.querySelectorAll(".compare-view"));

  // sides: { result, name, details } of two results. closed: called when the dialog is. Rejects if one is not there.
  async function open(sides, closed) {
    const recipes = await Promise.all(sides.map(readRecipe));
    const dialog = $("compare");
    dialog.querySelectorAll("figure").forEach((figure, side) => {
      const { result, name, details } = sides[side];
      const view = element("div", { className: "compare-view", role: "img", ariaLabel: `${name}, ${details}` });
      view.style.backgroundImage = `url("r/${result}/turntable.webp")`;
      figure.replaceChildren(view, element("figcaption", { textContent: `${name} · ${details}` }));
    });
    dialog.querySelector("table").replaceChildren(element("caption", { className: "hidden-text", textContent: "What differs" }),
      element("tbody", {}, ...ROWS.map(([name, read]) => {
        const cells = recipes.map(read);
        return element("tr", { className: cells[0] === cells[1] ? "" : "differs" },
          element("th", { scope: "row", textContent: name }), ...cells.map((text) => element("td", { textContent: text })));
      })));
    turn(0);
    if (!dialog.open) dialog.showModal();
    dialog.onclose = () => {
      close();
      closed();
    };
    await draw(sides.map(({ result }) => result));
  }

  async function readRecipe({ result, name }) {
    const answer = await fetch(`r/${result}/recipe.json`, { cache: "no-store" });
    if (!answer.ok) throw new Error(`${name} is not there any more.`);
    return answer.json();
  }

  // --- turning: by the slider, by dragging a still, or with the viewer that is touched -------------------------------

  function showTurn(frame) {
    const slider = $("compare-turn");
    const at = ((Math.round(frame) % FRAMES) + FRAMES) % FRAMES;
    slider.value = at;
    slider.setAttribute("aria-valuetext", `${Math.round((360 * at) / FRAMES)} degrees`);
    return at;
  }

  function turn(frame) {
    const at = showTurn(frame);
    for (const view of views()) view.style.backgroundPosition = `${(100 * at) / (FRAMES - 1)}% 0`;
    for (const one of viewers) {
      Object.assign(one.details.camera, AT_REST, { alpha: start().alpha + (2 * Math.PI * at) / FRAMES });
      one.details.markSceneMutated();
    }
  }

  function watchTurning() {
    const dialog = $("compare");
    let from = null;
    $("compare-turn").addEventListener("input", (event) => turn(Number(event.target.value)));
    dialog.addEventListener("pointerdown", (event) => {
      const view = event.target.closest(".compare-view");
      if (!view || viewers.length) return;
      from = { x: event.clientX, frame: Number($("compare-turn").value), width: view.clientWidth };
      view.setPointerCapture(event.pointerId);
    });
    dialog.addEventListener("pointermove", (event) => {
      if (from) turn(from.frame + ((event.clientX - from.x) / from.width) * FRAMES);
    });
    for (const end of ["pointerup", "pointercancel"]) dialog.addEventListener(end, () => { from = null; });
  }

  // --- viewers ---------------------------------------------------------------------------------------------------------

  function start() { // where the stage's camera starts too
    const [alpha, beta, radius] = document.querySelector('[data-do="reset-view"]').dataset.camera.split(" ").map(Number);
    return { alpha: (alpha * Math.PI) / 180, beta: (beta * Math.PI) / 180, radius };
  }

  async function draw(results) {
    close();
    const mine = asked;
    const hint = $("compare-hint");
    const address = $("compare").dataset.viewer;
    hint.textContent = STILLS;
    if (!address || document.documentElement.classList.contains("no-webgl")) return;
    hint.textContent = "Loading both models";
    const made = [];
    try {
      const { CreateViewerForCanvas } = await import(new URL(address, document.baseURI).href);
      for (const [side, view] of views().entries()) { // one after the other: half the memory while they are read
        if (mine !== asked) break;
        const one = await make(CreateViewerForCanvas, view);
        made.push(one);
        await one.viewer.loadModel(new URL(`r/${results[side]}/preview.glb`, document.baseURI).href);
      }
    } catch (error) {
      if (mine === asked) hint.textContent = `${STILLS} These are stills, for the viewer did not start: ${error.message}`;
      made.forEach(dispose);
      return;
    }
    if (mine !== asked) {
      made.forEach(dispose);
      return;
    }
    viewers = made;
    [leader] = viewers;
    viewers.forEach(link);
    turn(Number($("compare-turn").value));
    hint.textContent = "Drag, scroll or press arrow keys on one: the other moves with it.";
  }

  async function make(create, view) {
    const label = `${view.ariaLabel}: drag or arrow keys to turn both, scroll to come closer`;
    const canvas = element("canvas", { tabIndex: 0, ariaLabel: label, role: "img" });
    view.append(canvas);
    let details = null;
    const viewer = await create(canvas, {
      engine: "WebGL", clearColor: [0, 0, 0, 0], useRightHandedSystem: true, cameraAutoOrbit: { enabled: false },
      loseContextOnDispose: true, onInitialized: (those) => { details = those; },
    });
    return { view, viewer, details };
  }

  function link(one) { // its model is there, and its camera looks at the middle
    const { camera, scene } = one.details;
    one.middle = camera.target.clone();
    Object.assign(camera, { ...start(), lowerRadiusLimit: 0.1, wheelPrecision: 120 });
    for (const touch of ["pointerdown", "wheel", "keydown"]) one.view.addEventListener(touch, () => lead(one), true);
    camera.onViewMatrixChangedObservable.add(() => { if (leader === one) follow(); });
    scene.executeWhenReady(() => {
      one.details.markSceneMutated();
      one.view.classList.add("live");
      one.view.removeAttribute("role");
    });
  }

  function lead(one) {
    if (one !== leader) Object.assign(leader.details.camera, AT_REST);
    leader = one;
  }

  function follow() {
    const { camera } = leader.details;
    for (const one of viewers.filter((each) => each !== leader)) {
      Object.assign(one.details.camera, { alpha: camera.alpha, beta: camera.beta, radius: camera.radius });
      one.details.camera.target.copyFrom(one.middle.add(camera.target.subtract(leader.middle)));
      one.details.markSceneMutated();
    }
    showTurn(((camera.alpha - start().alpha) / (2 * Math.PI)) * FRAMES);
  }

  function close() {
    asked += 1;
    viewers.forEach(dispose);
    viewers = [];
    leader = null;
  }

  function dispose({ view, viewer }) { // with its engine, whose memory is given back at once
    viewer.dispose();
    view.querySelector("canvas").remove();
  }

  // --- start -----------------------------------------------------------------------------------------------------------

  window.orfeas.compare = open;
  window.orfeas.whenThere(() => $("compare-turn"), Infinity).then(watchTurning);
})();
