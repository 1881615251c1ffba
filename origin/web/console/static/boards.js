// Charts over tables: each `table[data-chart]` says what is drawn, and stays what it is for those who read or print.
// ES2018, no globals but the library's own.

const { echarts } = window;
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const charts = new Map();

const colour = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();
const text = (cell) => (cell ? cell.textContent.trim() : "");
const value = (cell) => Number(cell.dataset.v || 0);
const heads = (table) => [...table.tHead.rows[0].cells].map(text);
const rows = (table) => [...table.tBodies[0].rows];
const palette = () => ["#2b8a57", "#d08a1d", "#3b72b8", "#8a5fb5"];

const frame = () => ({
  animation: !calm.matches,
  textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: colour("--dim") },
  color: palette(),
  grid: { left: 8, right: 24, top: 40, bottom: 8, containLabel: true },
  // Drawn, not put into the page: the page's own rules allow no style attributes.
  tooltip: { trigger: "axis", renderMode: "richText", confine: true },
  aria: { enabled: true },
});
const axis = (more) => ({
  axisLabel: { color: colour("--dim"), hideOverlap: true },
  axisLine: { lineStyle: { color: colour("--line") } },
  splitLine: { lineStyle: { color: colour("--line") } },
  ...more,
});
const zone = "Asia/Shanghai";
const clock = new Intl.DateTimeFormat("zh-CN", { timeZone: zone, hour: "2-digit", minute: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat("zh-CN", { timeZone: zone, month: "numeric", day: "numeric" });
const moment = (at, long) => (long ? `${day.format(at)} ${clock.format(at)}` : clock.format(at));

// Steps over time: how many have it by when, beside how many were promised to.
const curve = (table) => {
  const names = heads(table).slice(1);
  const lines = rows(table).map((row) => [...row.cells]);
  const times = lines.map((cells) => Date.parse(cells[0].dataset.at));
  const isLong = times.length > 1 && times[times.length - 1] - times[0] > 86400000;
  const series = names.map((name, number) => ({
    name,
    type: "line",
    step: "end",
    symbol: "none",
    lineStyle: { width: number ? 2 : 3, type: number ? "dashed" : "solid" },
    areaStyle: number ? undefined : { opacity: 0.15 },
    data: lines.map((cells, row) => [times[row], value(cells[number + 1])]),
  }));
  const most = Number(table.dataset.most || 0);
  return {
    ...frame(),
    legend: { top: 4, textStyle: { color: colour("--dim") } },
    xAxis: axis({ type: "time", axisLabel: { color: colour("--dim"), hideOverlap: true, formatter: (at) => moment(at, isLong) } }),
    yAxis: axis({ type: "value", minInterval: 1, max: most || undefined }),
    tooltip: {
      ...frame().tooltip,
      formatter: (points) =>
        [moment(points[0].value[0], true), ...points.map((one) => `${one.seriesName} ${one.value[1]}`)].join("\n"),
    },
    series,
  };
};

const days = (table) => ({
  ...frame(),
  legend: { top: 4, textStyle: { color: colour("--dim") } },
  xAxis: axis({ type: "category", data: rows(table).map((row) => text(row.cells[0])) }),
  yAxis: [axis({ type: "value", minInterval: 1 }), axis({ type: "value", minInterval: 1, splitLine: { show: false } })],
  series: heads(table)
    .slice(1)
    .map((name, number) => ({
      name,
      type: number ? "line" : "bar",
      yAxisIndex: number,
      symbol: "none",
      data: rows(table).map((row) => value(row.cells[number + 1])),
    })),
});

// The first ten, the longest on top.
const bars = (table) => {
  const first = rows(table).slice(0, 10).reverse();
  return {
    ...frame(),
    grid: { ...frame().grid, top: 8 },
    xAxis: axis({ type: "value", minInterval: 1 }),
    yAxis: axis({
      type: "category",
      data: first.map((row) => text(row.cells[0])),
      axisLabel: { color: colour("--dim"), width: 130, overflow: "truncate" },
    }),
    series: [{ name: heads(table)[1], type: "bar", barMaxWidth: 18, data: first.map((row) => value(row.cells[1])) }],
  };
};

const week = (table) => {
  const names = rows(table).map((row) => text(row.cells[0]));
  const cells = rows(table).flatMap((row, y) => [...row.cells].slice(1).map((cell, x) => [x, y, value(cell)]));
  const most = Math.max(1, ...cells.map((cell) => cell[2]));
  const unit = table.dataset.unit || "";
  return {
    ...frame(),
    grid: { ...frame().grid, bottom: 48, top: 8 },
    tooltip: {
      renderMode: "richText",
      confine: true,
      formatter: ({ value: [x, y, count] }) => `${names[y]} ${String(x).padStart(2, "0")}:00\n${count.toLocaleString()} ${unit}`,
    },
    xAxis: axis({ type: "category", data: [...Array(24).keys()].map((hour) => `${hour}:00`), splitArea: { show: true } }),
    yAxis: axis({ type: "category", data: names, inverse: true, splitArea: { show: true } }),
    visualMap: {
      min: 0,
      max: most,
      orient: "horizontal",
      left: "center",
      bottom: 0,
      itemHeight: 120,
      itemWidth: 12,
      textStyle: { color: colour("--dim") },
      inRange: { color: dark.matches ? ["#1a222c", "#1d6b43", "#7fd6a3"] : ["#eef3f0", "#65b48a", "#0f5c38"] },
    },
    series: [{ type: "heatmap", data: cells, itemStyle: { borderColor: colour("--paper"), borderWidth: 1 } }],
  };
};

// How fast a line is through the day: the mean of its measured days, and what caps it.
const line = (table) => ({
  ...frame(),
  legend: { top: 4, textStyle: { color: colour("--dim") } },
  xAxis: axis({ type: "category", data: rows(table).map((row) => text(row.cells[0])) }),
  yAxis: axis({ type: "value", name: table.dataset.unit, nameTextStyle: { color: colour("--dim") } }),
  series: heads(table)
    .slice(1)
    .map((name, number) => ({
      name,
      type: "line",
      symbol: "circle",
      symbolSize: 4,
      step: number ? "middle" : undefined,
      lineStyle: { width: number ? 1.5 : 3, type: number ? "dashed" : "solid" },
      data: rows(table).map((row) => (row.cells[number + 1].dataset.v ? value(row.cells[number + 1]) : null)),
    })),
});

const kinds = { curve, days, bars, week, line };
const heights = { week: "tall", line: "low" };

const sizes = window.ResizeObserver
  ? new ResizeObserver((found) => {
      for (const { target } of found) if (charts.has(target)) charts.get(target).chart.resize();
    })
  : null;

const draw = (table) => {
  const kind = table.dataset.chart;
  if (!rows(table).length) return;
  let place = document.createElement("div");
  place.className = `chart ${heights[kind] || ""}`;
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", table.dataset.name || heads(table).join(" "));
  const data = table.closest("details.data");
  (data || table.closest(".scroll") || table).before(place);
  const chart = echarts.init(place, null, { renderer: "canvas" });
  chart.setOption(kinds[kind](table));
  charts.set(place, { chart, table, kind });
  if (sizes) sizes.observe(place);
};

const drawAll = (root) => {
  for (const [place, { chart }] of [...charts]) {
    if (place.isConnected) continue;
    if (sizes) sizes.unobserve(place);
    chart.dispose();
    charts.delete(place);
  }
  for (const table of root.querySelectorAll("table[data-chart]")) draw(table);
};

const redraw = () => {
  for (const { chart, table, kind } of charts.values()) chart.setOption(kinds[kind](table), { notMerge: true });
};

if (echarts) {
  drawAll(document);
  document.addEventListener("live:put", (event) => drawAll(event.target));
  dark.addEventListener("change", redraw);
  calm.addEventListener("change", redraw);
}
// On paper the figures stand under their picture.
window.addEventListener("beforeprint", () => {
  for (const data of document.querySelectorAll("details.data")) data.open = true;
  charts.forEach(({ chart }) => chart.resize());
});
