// Words for values of the API.

import { h, s } from "./dom.js";
import { sinceElement } from "./time.js";

/** The everyday labels that are contained in another one. Occupancy counts an object under both. */
const CONTAINED_IN = {
	car: "vehicle", truck: "vehicle", bus: "vehicle",
	motorcycle: "two-wheeler", bicycle: "two-wheeler",
	dog: "animal", cat: "animal", bird: "animal",
};

export const EVERYDAY_LABELS = ["person", "vehicle", "two-wheeler", "animal", ...Object.keys(CONTAINED_IN), "unknown"];

export const stateText = (state) => ({ denied: "access denied", unsupported: "not supported" })[state] ?? state;

export const percent = (fraction) => (Number.isFinite(fraction) ? `${Math.round(fraction * 100)} %` : "–");

export const number = (value, digits = 1) => (Number.isFinite(value) ? value.toFixed(digits) : "–");

export const count = (amount, one, many = `${one}s`) => `${amount} ${amount === 1 ? one : many}`;

export function bytesText(bytes) {
	if (!Number.isFinite(bytes)) return "unknown";
	const units = ["B", "kB", "MB", "GB", "TB"];
	let value = bytes;
	let unit = 0;
	while (value >= 1000 && unit < units.length - 1) {
		value /= 1000;
		unit += 1;
	}
	return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Joins words: "a", "a and b", "a, b and c". */
export function listInWords(words) {
	return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** Counts by label in words, each object once: of an animal that is a cat only the cat is said. */
export function labelsInWords(occupancy) {
	const labels = { ...occupancy.labels };
	for (const [label, amount] of Object.entries(occupancy.labels)) {
		const parent = CONTAINED_IN[label];
		if (labels[parent] !== undefined) labels[parent] -= amount;
	}
	const shown = Object.entries(labels).filter(([, amount]) => amount > 0);
	const named = shown.reduce((sum, [, amount]) => sum + amount, 0);
	const words = shown.map(([label, amount]) => `${amount} ${label}`);
	if (occupancy.total > named) words.push(`${occupancy.total - named} unknown`);
	return listInWords(words);
}

export function occupancyText(occupancy) {
	if (!occupancy) return "not known yet";
	return occupancy.total > 0 ? labelsInWords(occupancy) : "nothing";
}

/** The label of an event with its sub-label. */
export const eventLabel = (event) =>
	event.sub_label && event.sub_label !== event.label ? `${event.label} (${event.sub_label})` : event.label;

/** A mark before a word: a dot, a ring or a triangle. */
export function mark(kind) {
	const shape = kind === "bad" ? s("path", { d: "M6 .5 12 11.5H0z" })
		: s(kind === "good" ? "circle" : "circle.ring", { cx: 6, cy: 6, r: kind === "good" ? 5 : 4 });
	return s("svg", { class: `mark ${kind}`, viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, shape);
}

/** State, since when, and reason. The marks of the states differ in shape as well as in colour. */
export function statusLine({ state, since, reason }) {
	const kind = state === "live" ? "good" : ["paused", "starting", "ended", "stopped"].includes(state) ? "idle" : "bad";
	return [h("span", { class: `state ${kind}`, "data-state": state }, mark(kind), stateText(state)), " for ", sinceElement(since),
		reason ? `: ${reason}` : null];
}

/** The health of the image in words, or null if there is nothing to say. */
export function healthText(status) {
	if (!status.health || status.health === "ok") return null;
	return status.health_reason ? `${status.health}: ${status.health_reason}` : status.health;
}
