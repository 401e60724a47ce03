// Shows maps and compares images. `element` holds the answer, which is replaced by the next one;
// so clicks are listened for here and not at the buttons. The keyboard's come as clicks too.

function press(buttons, pressed) {
  for (const button of buttons) button.setAttribute("aria-pressed", String(button === pressed));
}

function showMap(button) {
  const panel = button.closest(".mz-panel");
  const find = (name) => panel.querySelector(`.mz-${name}`);
  const { map, low, high, caption } = button.dataset;
  press(panel.querySelectorAll("button"), button);
  find("map").hidden = find("scale").hidden = !map;
  if (map) find("map").src = map;
  find("image").classList.toggle("mz-grey", Boolean(map));
  find("caption").textContent = caption ?? "Choose a class to see its activation map.";
  find("low").textContent = low ?? "";
  find("high").textContent = high ?? "";
}

// The first of the two images side by side is always there, the second may be none.
function arrange(first, second) {
  const all = (selector) => element.querySelectorAll(selector);
  const of = (selector, number) => element.querySelector(`${selector}[data-image="${number}"]`);
  press(all(".mz-show"), of(".mz-show", first));
  press(all(".mz-compare"), of(".mz-compare", second));
  for (const button of all(".mz-compare")) button.disabled = button.dataset.image === first;
  for (const panel of all(".mz-panel")) {
    const number = panel.dataset.image;
    panel.hidden = number !== first && number !== second;
    panel.style.order = number === first ? 0 : 1;
  }
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.matches(".mz-row, .mz-look")) return showMap(button);
  const pressed = (name) =>
    element.querySelector(`.mz-${name}[aria-pressed="true"]`)?.dataset.image;
  const number = button.dataset.image;
  if (button.matches(".mz-show")) {
    arrange(number, pressed("compare") === number ? undefined : pressed("compare"));
  } else if (button.matches(".mz-compare")) {
    arrange(pressed("show"), pressed("compare") === number ? undefined : number);
  }
});

// A paste is an upload: the files go where a drop or a click would have put them.
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  const input = document.querySelector("#mz-files input[type=file]");
  if (!files.length || !input) return;
  const transfer = new DataTransfer();
  for (const file of files) transfer.items.add(file);
  input.files = transfer.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
});
