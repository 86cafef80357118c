"use strict";
// Highlights one strategy in every drawing: while pointed at, or for good once its button or row is clicked.
const parts = [...document.querySelectorAll("[data-s]")];
const buttons = parts.filter((part) => part.tagName === "BUTTON");
let pinned = null;

function show(strategy) {
  document.body.classList.toggle("picked", strategy !== null);
  for (const part of parts) part.classList.toggle("on", part.dataset.s === strategy);
  for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.s === pinned));
}

function strategyOf(event) {
  const part = event.target.closest ? event.target.closest("[data-s]") : null;
  return part && !part.classList.contains("card") ? part.dataset.s : null;
}

if (buttons.length) {
  document.addEventListener("pointerover", (event) => {
    if (event.pointerType === "mouse") show(strategyOf(event) ?? pinned);
  });
  document.addEventListener("click", (event) => {
    const strategy = strategyOf(event);
    if (strategy === null) return;
    pinned = strategy === pinned ? null : strategy;
    show(pinned);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") show((pinned = null));
  });
  document.querySelector(".picker").hidden = false;
}

// Copies the code; browsers that refuse the clipboard to a local file get the text selected instead.
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = document.getElementById(button.dataset.copy);
    const words = button.textContent;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = words), 1500);
  });
}

for (const button of document.querySelectorAll(".save")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const text = JSON.stringify(JSON.parse(document.getElementById("result").textContent), null, 1);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = button.dataset.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}
