/* Draws the charts of the overview with uPlot.
 *
 * A plot stands outside the live regions; its numbers are a data-af-chart attribute inside one. After
 * each live update the numbers that changed are set into the plot that is there, so nothing flickers.
 */
(function () {
  "use strict";

  const uPlot = window.aftersaveUPlot;
  const root = document.getElementById("af-root");
  if (!uPlot || !root) return;

  const language = root.dataset.afLanguage; // set by manners.js
  const drawn = new Map(); // element of the plot → {plot, text, chart}

  // A canvas knows neither var() nor light-dark(): an element says what they come to.
  const sample = document.createElement("i");
  sample.hidden = true;
  root.append(sample);

  function colour(name) {
    sample.style.color = `var(${name}, #777)`;
    return getComputedStyle(sample).color;
  }

  // Numbers and times as people read them

  const number = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
  const compact = new Intl.NumberFormat(language, { notation: "compact", maximumFractionDigits: 1 });

  function unit(name, value) {
    const options = { style: "unit", unit: name, unitDisplay: "short" };
    options.maximumFractionDigits = value < 10 ? 1 : 0;
    return new Intl.NumberFormat(language, options).format(value);
  }

  function duration(seconds) {
    if (seconds === 0) return unit("second", 0);
    if (seconds < 1) return unit("millisecond", seconds * 1000);
    if (seconds < 60) return unit("second", seconds);
    if (seconds < 3600) return unit("minute", seconds / 60);
    return unit("hour", seconds / 3600);
  }

  const shown = (chart, value, short) =>
    chart.unit === "seconds" ? duration(value) : (short ? compact : number).format(value);

  function clock(chart) {
    const days = chart.x[chart.x.length - 1] - chart.x[0] > 2 * 86400;
    const hours = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" });
    const day = new Intl.DateTimeFormat(language, { weekday: "short", day: "numeric" });
    const full = new Intl.DateTimeFormat(language, {
      ...(days && { weekday: "short", day: "numeric", month: "short" }),
      hour: "2-digit",
      minute: "2-digit",
    });
    return {
      tick: (stamp) => (days ? day : hours).format(new Date(stamp * 1000)),
      full: (stamp) => full.format(new Date(stamp * 1000)),
    };
  }

  // Lines

  // A minute with a minute missing on both sides has no line: it is shown as a point.
  function lonely(plot, index) {
    const values = plot.data[index];
    const found = [];
    for (let i = 0; i < values.length; i++) {
      if (values[i] != null && values[i - 1] == null && values[i + 1] == null) found.push(i);
    }
    return found;
  }

  function line(chart, series) {
    const stroke = () => colour(series.color);
    return {
      label: series.label,
      stroke,
      width: 2,
      dash: series.dash,
      fill: series.fill ? () => colour(`${series.color}-fill`) : undefined,
      points: { show: false, size: 6, fill: stroke, filter: lonely },
      value: (plot, value) => (value == null ? "–" : shown(chart, value, false)),
    };
  }

  // Seconds are read as minutes and hours: not 17, 33 and 50 of them.
  const STEPS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900,
    1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000, 864000];

  function axes(chart, times, size) {
    const font = `${size}px ${getComputedStyle(root).fontFamily}`;
    const common = {
      font,
      stroke: () => colour("--af-chart-text"),
      grid: { stroke: () => colour("--af-chart-grid"), width: 1 },
      ticks: { show: false },
    };
    const days = chart.x[chart.x.length - 1] - chart.x[0] > 2 * 86400;
    return [
      {
        ...common,
        grid: { show: false },
        size: size * 2.4,
        space: size * (days ? 6 : 5),
        incrs: days ? [86400] : [300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600, 43200],
        values: (plot, splits) => splits.map(times.tick),
      },
      {
        ...common,
        size: size * 5.2,
        space: size * 3,
        ...(chart.unit === "seconds" && { incrs: STEPS }),
        values: (plot, splits) => splits.map((value) => shown(chart, value, true)),
      },
    ];
  }

  // From nought, and never a flat line of noughts at the very top.
  function fromZero(chart) {
    const least = chart.unit === "seconds" ? 0.1 : 4;
    return (plot, low, high) => [0, Math.max(least, (high || 0) * 1.1)];
  }

  function make(element, chart) {
    const size = parseFloat(getComputedStyle(element).fontSize) || 12;
    const times = clock(chart);
    // The newest may stand at the very edge, half of its label beyond.
    const halfTick = times.tick(chart.x[chart.x.length - 1]).length * size * 0.35;
    const dash = (plot, index) => (chart.series[index - 1]?.dash?.length ? "dashed" : "solid");
    const options = {
      width: element.clientWidth,
      height: plotHeight(element, size),
      padding: [size / 2, halfTick, 0, 0],
      cursor: { sync: { key: "aftersave" }, drag: { x: false, y: false }, points: { size: 7 } },
      legend: { markers: { dash } },
      hooks: { setCursor: [showNewest] },
      scales: { x: { time: true }, y: { range: fromZero(chart) } },
      axes: axes(chart, times, size),
      series: [
        { label: chart.time, value: (plot, stamp) => (stamp == null ? "–" : times.full(stamp)) },
        ...chart.series.map((series) => line(chart, series)),
      ],
    };
    return showNewest(new uPlot(options, data(chart), element));
  }

  // The legend tells the newest values while nobody points at others.
  function showNewest(plot) {
    if (plot.cursor.idx != null) return plot;
    let newest = plot.data[0].length - 1;
    while (newest > 0 && plot.data.slice(1).every((values) => values[newest] == null)) newest -= 1;
    plot.setLegend({ idx: newest }, false);
    return plot;
  }

  // The legend stands below, on as many lines as it takes.
  const plotHeight = (element, size) => parseFloat(getComputedStyle(element).minHeight) - size * 2.6;
  const data = (chart) => [chart.x, ...chart.series.map((series) => series.values)];

  // Life on the page

  function draw(element) {
    const source = document.getElementById(element.dataset.afPlot);
    const text = source?.dataset.afChart;
    if (!text) return;
    const before = drawn.get(element);
    if (before?.text === text) return;
    const chart = JSON.parse(text);
    if (before) {
      before.text = text;
      before.plot.setData(data(chart));
      showNewest(before.plot);
      return;
    }
    element.classList.add("af-drawn");
    drawn.set(element, { text, plot: make(element, chart) });
    sizes.observe(element);
  }

  function drawAll() {
    for (const element of root.querySelectorAll("[data-af-plot]")) draw(element);
  }

  function fit(entries) {
    for (const { target } of entries) {
      const plot = drawn.get(target)?.plot;
      const size = parseFloat(getComputedStyle(target).fontSize) || 12;
      const height = plotHeight(target, size);
      if (!plot || !target.clientWidth) continue;
      if (plot.width === target.clientWidth && plot.height === height) continue;
      plot.setSize({ width: target.clientWidth, height });
    }
  }

  function recolour() {
    for (const [element, { text, plot }] of drawn) {
      plot.destroy();
      drawn.set(element, { text, plot: make(element, JSON.parse(text)) });
    }
  }

  const sizes = new ResizeObserver(fit);
  new MutationObserver(recolour).observe(document.documentElement, {
    attributes: true,
    attributeFilter: ["data-theme", "data-bs-theme", "class"],
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  root.addEventListener("af:updated", drawAll);
  drawAll();
})();
