"use strict";
// Names are only ever set as text: nothing that came from outside becomes markup here.
const make = (tag, set = {}, ...inside) => {
  const element = Object.assign(document.createElement(tag), set);
  element.append(...inside);
  return element;
};

function gallery(root) {
  const data = JSON.parse(root.querySelector("script").textContent);
  const SIZE = 12;
  const segments = data.task !== "classify";
  const tones = segments ? ["good", "doubt", "bad", "doubt"] : ["good", "bad", "doubt", "doubt"];
  const chosen = {};
  let page = 0;

  const select = (name, options, first = "") => {
    const list = make("select", { id: `${root.parentNode.id}-${name}` });
    list.append(make("option", { value: "", textContent: "all" }));
    options.forEach((text, value) => list.append(make("option", { value, textContent: text })));
    list.value = first;
    list.addEventListener("change", () => { page = 0; show(); });
    chosen[name] = list;
    return make("div", { className: "field" }, make("label", { htmlFor: list.id, textContent: name }), list);
  };
  const step = (by) => { page += by; show(); };
  const back = make("button", { type: "button", textContent: "\u2190 back" });
  const next = make("button", { type: "button", textContent: "next \u2192" });
  back.addEventListener("click", () => step(-1));
  next.addEventListener("click", () => step(1));
  const status = make("span");
  status.setAttribute("role", "status");
  const tiles = make("div", { className: "tiles" });
  const filters = [select("model", data.models), select("threat", data.threats, String(data.first ?? "")), select("verdict", data.verdicts)];
  if (!segments) {
    const met = [...new Set(data.images.map((image) => image.label))].sort((a, b) => a - b);
    const list = select("class", []);
    met.forEach((label) => chosen.class.append(make("option", { value: label, textContent: data.classes[label] ?? label })));
    filters.push(list);
  }
  root.append(make("div", { className: "controls" }, ...filters, make("div", { className: "pager" }, back, status, next)), tiles);
  if (segments) {
    const swatch = (colour) => { const box = make("i"); box.style.background = colour; return box; };
    const entry = (name, colour) => make("li", {}, swatch(colour), name);
    root.append(make("ul", { className: "key" }, ...data.classes.map((name, i) => entry(name, data.colours[i])), entry("ignored", data.ignored)));
  }
  root.addEventListener("keydown", (event) => {
    if (event.target.closest("select, dialog")) return;
    if (event.key === "ArrowLeft" && !back.disabled) step(-1);
    if (event.key === "ArrowRight" && !next.disabled) step(1);
  });

  // A picture is decoded when it is first looked at.
  const source = (n) => `data:${data.mime};base64,${data.pictures[n]}`;
  const picture = (n, alt) => make("img", { src: source(n), alt, decoding: "async" });
  const loaded = async (n) => { const image = new Image(); image.src = source(n); await image.decode(); return image; };
  const pixels = (image) => {
    const canvas = make("canvas", { width: image.naturalWidth, height: image.naturalHeight });
    const brush = canvas.getContext("2d", { willReadFrequently: true });
    brush.drawImage(image, 0, 0);
    return brush.getImageData(0, 0, canvas.width, canvas.height);
  };
  // What the threat made of an image: the original, and the stretched difference taken back by its scale.
  const after = (item, alt) => {
    const original = data.images[item.image].picture;
    if (item.picture === null) return picture(original, alt);
    const canvas = make("canvas", { width: 1, height: 1 });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", alt);
    Promise.all([loaded(original), loaded(item.picture)]).then((both) => {
      const [image, change] = both.map(pixels);
      const by = (item.scale * 255) / 127;
      for (let i = 0; i < image.data.length; i++) if (i % 4 !== 3) image.data[i] += Math.round((change.data[i] - 128) * by);
      Object.assign(canvas, { width: image.width, height: image.height });
      canvas.getContext("2d").putImageData(image, 0, 0);
    });
    return canvas;
  };
  const times = (scale) => { const by = 0.5 / scale; return by < 9.5 ? by.toFixed(1) : by.toFixed(0); };
  const called = (place) => data.classes[place] ?? String(place);
  const says = (item) => segments ? `${(100 * item.accuracy).toFixed(1)} % of pixels right`
    : item.answer === data.images[item.image].label ? `${called(item.answer)}, as it is` : `${called(data.images[item.image].label)} is taken for ${called(item.answer)}`;

  const views = (item) => {
    const image = data.images[item.image];
    const view = (what, element) => make("span", {}, element, make("small", { textContent: what }));
    const found = [view("original", picture(image.picture, `original, ${image.name}`)), view("after", after(item, `after ${data.threats[item.threat]}`))];
    if (item.picture !== null) found.push(view(`difference \u00d7${times(item.scale)}`, picture(item.picture, "difference, stretched")));
    if (item.mask !== null) found.push(view("truth", picture(image.truth, "true classes")), view("answer", picture(item.mask, "classes that the model sees")));
    return found;
  };
  const words = (item) => [
    make("p", {}, make("b", { textContent: data.models[item.model] }), ` under ${data.threats[item.threat]}`),
    make("p", {}, make("span", { className: `tag ${tones[item.verdict]}`, textContent: data.verdicts[item.verdict] }), ` ${says(item)}`),
  ];
  const dialog = make("dialog");
  root.append(dialog);
  const enlarge = (item) => {
    const close = make("button", { type: "button", textContent: "close" });
    close.addEventListener("click", () => dialog.close());
    dialog.replaceChildren(make("div", { className: "row" }, ...views(item)), ...words(item), make("p", { className: "soft", textContent: data.images[item.image].name }), close);
    dialog.showModal();
  };
  const tile = (item) => {
    const open = make("button", { type: "button", className: "row" }, ...views(item));
    open.setAttribute("aria-label", `enlarge ${data.images[item.image].name}, ${data.models[item.model]}: ${data.verdicts[item.verdict]}`);
    open.addEventListener("click", () => enlarge(item));
    return make("div", { className: "tile" }, open, ...words(item));
  };

  function show() {
    const is = (name, value) => chosen[name] === undefined || chosen[name].value === "" || Number(chosen[name].value) === value;
    const found = data.items.filter((item) => is("model", item.model) && is("threat", item.threat) && is("verdict", item.verdict) && is("class", data.images[item.image].label));
    const pages = Math.max(1, Math.ceil(found.length / SIZE));
    page = Math.min(Math.max(page, 0), pages - 1);
    tiles.replaceChildren(...found.slice(page * SIZE, (page + 1) * SIZE).map(tile));
    status.textContent = found.length ? `${found.length} found, page ${page + 1} of ${pages}` : "none is like that";
    back.disabled = page === 0;
    next.disabled = page >= pages - 1;
  }
  show();
}

// A defence's knob: a line through the chart, and what it reads there.
function slider(root) {
  const places = JSON.parse(root.dataset.places), texts = JSON.parse(root.dataset.texts);
  const input = root.querySelector("input"), output = root.querySelector("output");
  const lines = [...root.querySelectorAll("svg.chart")].map((chart) => {
    const line = document.createElementNS(chart.namespaceURI, "path");
    line.setAttribute("class", "cursor");
    chart.append(line);
    return [line, places[chart.viewBox.baseVal.width]];
  });
  const show = () => {
    lines.forEach(([line, at]) => line.setAttribute("d", `M${at[input.value]} ${root.dataset.span}`));
    output.textContent = texts[input.value];
    input.setAttribute("aria-valuetext", texts[input.value]);
  };
  input.addEventListener("input", show);
  show();
}

document.querySelectorAll("[data-gallery]").forEach(gallery);
document.querySelectorAll("[data-slider]").forEach(slider);
addEventListener("beforeprint", () => document.querySelectorAll("section > details").forEach((one) => { one.open = true; }));
