"use strict";
// Choosing a stage shows its panel; without scripts its link jumps to the slowest stage's panel only.
(() => {
  const stages = [...document.querySelectorAll("a.stage")];
  const panels = [...document.querySelectorAll(".panel")];
  const show = (id, scroll) => {
    const panel = document.getElementById("stage-" + id);
    if (!panel) return;
    for (const p of panels) p.hidden = p !== panel;
    for (const s of stages) {
      s.classList.toggle("chosen", s.dataset.stage === id);
      if (s.dataset.stage === id) s.setAttribute("aria-current", "true");
      else s.removeAttribute("aria-current");
    }
    if (scroll && panel.getBoundingClientRect().top > window.innerHeight - 160) panel.scrollIntoView({ block: "nearest", behavior: "smooth" });
  };
  for (const s of stages) {
    s.addEventListener("click", (event) => {
      event.preventDefault();
      show(s.dataset.stage, true);
      history.replaceState(null, "", "#stage-" + s.dataset.stage);
    });
  }
  const fromAddress = () => {
    const id = location.hash.startsWith("#stage-") ? location.hash.slice(7) : "";
    if (id) show(id, false);
  };
  window.addEventListener("hashchange", fromAddress);
  const slowest = document.querySelector("a.stage.slowest");
  if (slowest) show(slowest.dataset.stage, false);
  fromAddress();

  // What a bar of a chart says, on hovering and on touch.
  const tip = document.getElementById("tip");
  const say = (event) => {
    const mark = event.target.closest("figure svg [role=graphics-symbol][aria-label]");
    if (!mark || mark.getAttribute("aria-roledescription") !== "bar") {
      tip.hidden = true;
      return;
    }
    tip.textContent = mark.getAttribute("aria-label").split("; ").filter((part) => !part.startsWith("order:") && !part.startsWith("slowest:") && !part.startsWith("lowest:")).join(", ");
    tip.hidden = false;
    const left = Math.min(event.clientX + 12, window.innerWidth - tip.offsetWidth - 8);
    tip.style.left = Math.max(8, left) + "px";
    tip.style.top = event.clientY + 14 + "px";
  };
  document.addEventListener("pointermove", say);
  document.addEventListener("pointerdown", say);
  window.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
})();
