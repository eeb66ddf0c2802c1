(function () {
  const ink = () => getComputedStyle(document.body).color;
  const rule = () => getComputedStyle(document.body).getPropertyValue("--rule").trim();
  const draw = (holder) => {
    if (holder.dataset.drawn) return;
    holder.dataset.drawn = "yes";
    const figure = JSON.parse(holder.querySelector("script").textContent);
    const layout = figure.layout;
    layout.font = Object.assign({ size: 12 }, layout.font, { color: ink() });
    layout.height = Math.min(layout.height || 380, 420);
    Object.keys(layout).filter((name) => /^[xy]axis/.test(name)).forEach((name) => {
      layout[name] = Object.assign({ gridcolor: rule(), zerolinecolor: rule(), automargin: true }, layout[name]);
    });
    (layout.annotations || []).filter((one) => one.bgcolor === "panel").forEach((one) => {
      one.bgcolor = getComputedStyle(document.body).getPropertyValue("--panel").trim();
    });
    const place = document.createElement("div");
    holder.appendChild(place);
    Plotly.newPlot(place, figure.data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  };
  const drawIn = (part) => part.querySelectorAll(".figure").forEach(draw);
  document.querySelectorAll("section .figure").forEach(draw);
  document.querySelectorAll("details").forEach((part) => {
    if (part.open) drawIn(part);
    part.addEventListener("toggle", () => { if (part.open) drawIn(part); });
  });
})();
