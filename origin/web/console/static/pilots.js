// Choosing the regions of a pilot's waves from the tree: a press puts a region into the wave that was touched last, or
// takes it out. Without scripts the fields are typed into. ES2018, no globals.

const form = document.getElementById("waves");
const tree = form.querySelector("[data-tree]");
const fields = [...form.querySelectorAll("[data-wave]")];
const buttons = [...tree.querySelectorAll("[data-area]")];
let field = fields[0];

const areas = (one) => one.value.split(/[\s,，、]+/).filter(Boolean);

const show = () => {
  const chosen = new Map();
  fields.forEach((one, n) => areas(one).forEach((area) => chosen.set(area, n + 1)));
  for (const button of buttons) {
    const wave = chosen.get(button.dataset.area);
    button.setAttribute("aria-pressed", wave ? "true" : "false");
    if (wave) button.dataset.in = wave;
    else delete button.dataset.in;
  }
  for (const city of tree.querySelectorAll("details")) {
    const count = city.querySelectorAll('[aria-pressed="true"]').length;
    city.querySelector("[data-count]").textContent = count ? `(${count})` : "";
  }
  for (const one of fields) one.classList.toggle("touched", one === field);
};

for (const one of fields) {
  one.addEventListener("focus", () => {
    field = one;
    show();
  });
  one.addEventListener("input", show);
}
for (const button of buttons) {
  button.addEventListener("click", () => {
    const area = button.dataset.area;
    const was = fields.find((one) => areas(one).includes(area));
    if (was) was.value = areas(was).filter((one) => one !== area).join(" ");
    if (was !== field) field.value = [...areas(field), area].join(" ");
    show();
  });
}
tree.hidden = false;
show();
