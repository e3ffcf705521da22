// Small line plots as SVG, with the same in words.

import { h, s } from "./dom.js";
import { minuteText } from "./time.js";

const WIDTH = 320;
const HEIGHT = 120;
const LEFT = 40;
const RIGHT = 34;
const TOP = 10;
const BOTTOM = 20;

/**
 * @param {{title: string, unit: string, digits?: number, points: {at: string}[],
 *          series: {name: string, value: (point: object) => number|null}[]}} plot
 */
export function createPlot({ title, unit, digits = 0, points, series }) {
	const format = (value) => `${value.toFixed(digits)}${unit ? ` ${unit}` : ""}`;
	const values = series.map(({ value }) => points.map((point) => {
		const number = value(point);
		return Number.isFinite(number) ? number : null;
	}));
	const known = values.flat().filter((value) => value !== null);
	if (known.length === 0) {
		return h("figure.plot", h("figcaption", h("h3", title), h("p.quiet", "No values yet.")));
	}
	const top = niceMaximum(Math.max(...known));
	const fromMs = Date.parse(points[0].at);
	const spanMs = Math.max(1, Date.parse(points.at(-1).at) - fromMs);
	const x = (point) => LEFT + ((Date.parse(point.at) - fromMs) / spanMs) * (WIDTH - LEFT - RIGHT);
	const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
	const summaries = series.map(({ name }, index) => summary(name, values[index], points, format));

	const svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}. ${summaries.join(" ")}` },
		[0, top / 2, top].map((value) => [
			s("line.grid", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
			s("text.tick", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, tick(value))]).flat(),
		s("text.tick", { x: LEFT, y: HEIGHT - 4 }, minuteText(points[0].at)),
		s("text.tick", { x: WIDTH - RIGHT, y: HEIGHT - 4, "text-anchor": "end" }, minuteText(points.at(-1).at)),
		series.map((_, index) => s("path", { class: `line line-${index}`, d: path(points, values[index], x, y) })),
		series.length > 1 ? names(series, values, y) : null);
	return h("figure.plot",
		h("figcaption", h("h3", title), summaries.map((text) => h("p.quiet", text))), svg);
}

/** A path with gaps where values are missing. */
function path(points, values, x, y) {
	let isDown = false;
	return points.map((point, index) => {
		if (values[index] === null) {
			isDown = false;
			return "";
		}
		const command = isDown ? "L" : "M";
		isDown = true;
		return `${command}${x(point).toFixed(1)} ${y(values[index]).toFixed(1)}`;
	}).join("");
}

/** The names of the series at the ends of their lines, moved apart if they would overlap. */
function names(series, values, y) {
	const ends = series.map(({ name }, index) => ({ name, index, at: y(values[index].findLast((value) => value !== null) ?? 0) }))
		.sort((a, b) => b.at - a.at);
	ends.forEach((end, index) => {
		if (index > 0) end.at = Math.min(end.at, ends[index - 1].at - 12);
	});
	return ends.map(({ name, index, at }) => s("text", { class: `tick name-${index}`, x: WIDTH - RIGHT + 4, y: at + 4 }, name));
}

function summary(name, values, points, format) {
	const last = values.findLastIndex((value) => value !== null);
	if (last === -1) return `${name}: no values.`;
	const known = values.filter((value) => value !== null);
	const most = Math.max(...known);
	const at = points[values.indexOf(most)].at;
	return `${name ? `${name}: ` : ""}${format(values[last])} now, at most ${format(most)} at ${minuteText(at)}.`;
}

function niceMaximum(value) {
	if (value <= 0) return 1;
	const power = 10 ** Math.floor(Math.log10(value));
	return [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= value * 1.02) ?? 20 * power;
}

const tick = (value) => (value >= 10_000 ? `${Math.round(value / 1000)}k` : String(Number(value.toFixed(2))));
