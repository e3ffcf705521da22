// Times and durations: shown in the local time zone, counted by the node's clock.

import { h, setText } from "./dom.js";

const REFRESH_MS = 10_000;
// Below this the clocks count as equal: the Date header has whole seconds, and answers travel.
const CLOCK_TOLERANCE_MS = 3_000;

let clockOffsetMs = 0;

/** Learns from the Date header of an answer how far the browser's clock is off. */
export function noteServerTime(header) {
	const serverMs = Date.parse(header ?? "");
	if (Number.isNaN(serverMs)) return;
	const offsetMs = serverMs + 500 - Date.now();
	clockOffsetMs = Math.abs(offsetMs) > CLOCK_TOLERANCE_MS ? offsetMs : 0;
}

/** The time by the node's clock. */
export const nowMs = () => Date.now() + clockOffsetMs;

/** How long ago a time is; never negative, also if the clocks differ. */
export const ageMs = (iso) => Math.max(0, nowMs() - Date.parse(iso));

const timeFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minuteFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const dayFormat = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const shortDayFormat = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const fullFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

/** The local day of a time as YYYY-MM-DD. */
export function dayKey(date) {
	const pad = (number) => String(number).padStart(2, "0");
	return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}

export function dayInWords(date) {
	const today = new Date(nowMs());
	if (dayKey(date) === dayKey(today)) return "Today";
	if (dayKey(date) === dayKey(new Date(today.getFullYear(), today.getMonth(), today.getDate() - 1))) return "Yesterday";
	return dayFormat.format(date);
}

/** The start and the end of a local day, or null if the text is not a day. */
export function dayLimits(text) {
	const [, year, month, day] = /^(\d{4})-(\d{2})-(\d{2})$/.exec(text ?? "") ?? [];
	if (!year) return null;
	const from = new Date(year, month - 1, day);
	const to = new Date(year, month - 1, Number(day) + 1);
	return Number.isNaN(from.getTime()) ? null : { from: from.toISOString(), to: to.toISOString() };
}

export const minuteText = (iso) => minuteFormat.format(new Date(iso));

/** A <time> element; the day is left out if it is today or if it is shown elsewhere. */
export function timeElement(iso, { withDay = true } = {}) {
	const date = new Date(iso);
	if (Number.isNaN(date.getTime())) return h("span", "unknown");
	const showDay = withDay && dayKey(date) !== dayKey(new Date(nowMs()));
	const text = showDay ? `${shortDayFormat.format(date)}, ${timeFormat.format(date)}` : timeFormat.format(date);
	return h("time", { datetime: iso, title: fullFormat.format(date) }, text);
}

/** A <time> element that shows how long something has lasted. refreshAges() keeps it current. */
export function sinceElement(iso) {
	const date = new Date(iso);
	if (Number.isNaN(date.getTime())) return h("span", "an unknown time");
	return h("time", { datetime: iso, title: fullFormat.format(date), "data-since": "" }, ageText(iso));
}

const ageText = (iso) => durationText(Math.floor(ageMs(iso) / 1000));

/** A duration in words of at most two units. */
export function durationText(seconds) {
	if (!Number.isFinite(seconds)) return "unknown";
	if (seconds < 10 && seconds % 1 !== 0) return `${Math.max(0, seconds).toFixed(1)} s`;
	const whole = Math.max(0, Math.round(seconds));
	const parts = [[Math.floor(whole / 86400), "d"], [Math.floor(whole / 3600) % 24, "h"],
		[Math.floor(whole / 60) % 60, "min"], [whole % 60, "s"]];
	const first = parts.findIndex(([number]) => number > 0);
	if (first === -1) return "0 s";
	return parts.slice(first, first + 2).filter(([number]) => number > 0).map((part) => part.join(" ")).join(" ");
}

/** Refreshes all shown ages every ten seconds while the page is visible. Called once. */
export function refreshAges() {
	const refresh = () => {
		if (document.hidden) return;
		for (const element of document.querySelectorAll("time[data-since]")) setText(element, ageText(element.dateTime));
	};
	setInterval(refresh, REFRESH_MS);
	document.addEventListener("visibilitychange", refresh);
}
