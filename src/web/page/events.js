// The list of events: newest first, kept current by the stream of changes, with filters in the address.

import { get, isAborted } from "./api.js";
import { changes } from "./changes.js";
import { button, h, problemLine, replace, setText, setWords } from "./dom.js";
import { showPicture } from "./picture.js";
import { store } from "./store.js";
import { EVERYDAY_LABELS, count, eventLabel, percent } from "./text.js";
import { dayInWords, dayKey, dayLimits, durationText, sinceElement, timeElement } from "./time.js";

const PAGE_EVENTS = 50;
const MAX_ROWS = 400;
const ROWS_AFTER_TRIM = 350;
const FILTER_DELAY_MS = 300;
const RETRY_MS = 10_000;
const FILTERS = ["camera", "label", "zone", "day"];

/** The filters of the list that was shown last, so that an event can lead back to it. */
export let lastListAddress = "#/events";

export function openEvents(main, { scope, query }) {
	const filter = Object.fromEntries(FILTERS.map((key) => [key, query.get(key) ?? ""]));
	const camera = h("select#filter-camera");
	const label = h("input#filter-label", { list: "labels", value: filter.label, autocomplete: "off", spellcheck: "false" });
	const labels = h("datalist#labels", EVERYDAY_LABELS.map((text) => h("option", { value: text })));
	const zone = h("select#filter-zone");
	const day = h("input#filter-day", { type: "date", value: filter.day });
	const clear = button("#filter-clear", "Clear filters", clearFilters);
	const status = h("p#events-status", { role: "status" });
	const problem = problemLine("events-problem");
	const newest = button("#events-newest.sticky", "", () => reset(true), { hidden: true });
	const list = h("div#events");
	const older = button("#events-older", "Older events", () => (retry ? retry() : loadOlder()), { hidden: true });
	main.append(
		h("h1", "Events"),
		h("div#filters.filters.panel", { role: "search", "aria-label": "Filters" },
			[["Camera", camera], ["Label", label], ["Zone", zone], ["Day", day]].map(([text, field]) =>
				h("label", h("span", text), field)),
			labels, clear),
		status, problem, newest, list, older);

	const rows = new Map();
	let next = null;
	let loading = null;
	/** Newer rows were removed or held back: the list does not start with the newest event. */
	let isDetached = false;
	let heldBack = 0;
	/** Sends the request again that failed, or null. */
	let retry = null;
	let cancelFilterDelay = () => {};

	// --- Filters ---

	function showChoices() {
		const cameras = [...(store.cameras?.values() ?? [])];
		fillSelect(camera, "All cameras", cameras.map(({ name }) => name), filter.camera);
		const ofZones = cameras.filter(({ name }) => !filter.camera || name === filter.camera);
		fillSelect(zone, "All zones", [...new Set(ofZones.flatMap(({ zones }) => zones.map(({ name }) => name)))].sort(), filter.zone);
		clear.hidden = FILTERS.every((key) => !filter[key]);
	}

	function changeFilter() {
		Object.assign(filter, { camera: camera.value, label: label.value.trim(), zone: zone.value, day: day.value });
		showChoices();
		writeAddress();
		reset(false);
	}

	function clearFilters() {
		for (const field of [camera, label, zone, day]) field.value = "";
		changeFilter();
		camera.focus();
	}

	/** Puts the filters into the address without opening the view anew. */
	function writeAddress() {
		const used = new URLSearchParams(FILTERS.filter((key) => filter[key]).map((key) => [key, filter[key]]));
		lastListAddress = used.size ? `#/events?${used}` : "#/events";
		history.replaceState(null, "", lastListAddress);
	}

	for (const field of [camera, zone, day]) scope.listen(field, "change", changeFilter);
	scope.listen(label, "input", () => {
		cancelFilterDelay();
		cancelFilterDelay = scope.after(FILTER_DELAY_MS, changeFilter);
	});

	function matches(event) {
		const limits = dayLimits(filter.day);
		const startMs = Date.parse(event.started_at);
		return (!filter.camera || event.camera === filter.camera)
			&& (!filter.label || event.label === filter.label || event.label_path.includes(filter.label))
			&& (!filter.zone || event.visited_zones.includes(filter.zone) || event.zones.includes(filter.zone))
			&& (!limits || (startMs >= Date.parse(limits.from) && startMs < Date.parse(limits.to)));
	}

	// --- Pages ---

	/** Fetches the newest events anew. */
	async function reset(scrollUp) {
		loading?.abort();
		loading = null;
		if (scrollUp) {
			scrollTo(0, 0);
			main.querySelector("h1").focus({ preventScroll: true });
		}
		await load(null);
	}

	function loadOlder() {
		if (!loading && next !== null) load(next);
	}

	async function load(before) {
		const controller = new AbortController();
		loading = controller;
		older.disabled = true;
		retry = null;
		setWords(problem, "");
		if (before === null && rows.size === 0) setText(status, "Fetching the events.");
		try {
			const { camera, label, zone } = filter;
			const page = await get(["events"], { camera, label, zone, ...dayLimits(filter.day), before, limit: PAGE_EVENTS }, controller.signal);
			if (!page.available) throw new Error(page.reason);
			if (before === null) {
				clearRows();
				isDetached = false;
				heldBack = 0;
			}
			next = page.next;
			for (const event of page.events) put(event);
			trim();
			showState();
		} catch (error) {
			if (isAborted(error)) return;
			setWords(problem, `The events could not be fetched: ${error.message}`);
			setText(status, "");
			older.hidden = false;
			setText(older, "Try again");
			if (before === null) next = null;
			const again = () => load(before);
			retry = again;
			scope.after(RETRY_MS, () => retry === again && again());
		} finally {
			if (loading === controller) {
				loading = null;
				older.disabled = false;
			}
		}
		// The button may still be in view: then the observer is not called again by itself.
		if (!scope.closed && !problem.textContent) {
			ender.unobserve(older);
			ender.observe(older);
		}
	}

	function showState() {
		older.hidden = next === null;
		setText(older, "Older events");
		setText(status, rows.size === 0 ? "No events match." : `${count(rows.size, "event")} shown${next === null ? "" : ", older ones follow"}.`);
		newest.hidden = !isDetached && heldBack === 0;
		setText(newest, heldBack > 0 ? `Show ${count(heldBack, "new event")}` : "Back to the newest events");
	}

	const ender = scope.observe(new IntersectionObserver((entries) => {
		if (entries.some(({ isIntersecting }) => isIntersecting) && !problem.textContent) loadOlder();
	}, { rootMargin: "400px" }));

	// --- Rows ---

	function clearRows() {
		rows.clear();
		replace(list);
	}

	/** Puts an event into the list, or refreshes its row. The list is ordered by start, newest first. */
	function put(event) {
		const known = rows.get(event.id);
		if (known) return known.show(event);
		const row = createRow(event);
		rows.set(event.id, row);
		const key = dayKey(new Date(event.started_at));
		let group = [...list.children].find((section) => section.dataset.day <= key);
		if (group?.dataset.day !== key) {
			const created = createDay(key, new Date(event.started_at));
			list.insertBefore(created, group ?? null);
			group = created;
		}
		const items = group.lastElementChild;
		const startMs = Date.parse(event.started_at);
		// Pages arrive in order, so the place is nearly always at the end.
		let after = items.lastElementChild;
		if (!after || Number(after.dataset.startMs) >= startMs) return items.append(row.element);
		while (after && Number(after.dataset.startMs) < startMs) after = after.previousElementSibling;
		items.insertBefore(row.element, after ? after.nextElementSibling : items.firstElementChild);
	}

	function trim() {
		if (rows.size <= MAX_ROWS) return;
		for (const element of [...list.querySelectorAll("[data-event]")].slice(0, rows.size - ROWS_AFTER_TRIM)) {
			rows.delete(element.dataset.event);
			const section = element.closest("section");
			element.remove();
			if (!section.querySelector("[data-event]")) section.remove();
		}
		isDetached = true;
	}

	function receive(event) {
		const known = rows.get(event.id);
		if (known) return known.show(event);
		if (!matches(event) || (loading && rows.size === 0)) return;
		const oldest = list.lastElementChild?.querySelector("[data-event]:last-child");
		if (next !== null && oldest && Date.parse(event.started_at) < Number(oldest.dataset.startMs)) return;
		// Rows are not pushed down under the reader's eyes.
		const isReading = list.getBoundingClientRect().top < -100;
		if (isDetached || isReading || rows.size >= MAX_ROWS) {
			if (event.type === "start") heldBack += 1;
		} else {
			put(event);
		}
		showState();
	}

	writeAddress();
	showChoices();
	scope.onClose(() => loading?.abort());
	scope.listen(store, "cameras", showChoices);
	scope.listen(changes, "event", ({ detail: event }) => receive(event));
	scope.listen(changes, "refetch", () => {
		// Who reads older events is not taken back to the top.
		if (list.getBoundingClientRect().top < -100) {
			isDetached = true;
			showState();
		} else {
			reset(false);
		}
	});
	load(null);
	return { title: "Events" };
}

function fillSelect(select, all, names, chosen) {
	const choices = chosen && !names.includes(chosen) ? [...names, chosen] : names;
	const key = JSON.stringify(choices);
	if (select.dataset.choices !== key) {
		select.dataset.choices = key;
		replace(select, h("option", { value: "" }, all), choices.map((name) => h("option", { value: name }, name)));
	}
	select.value = chosen;
}

function createDay(key, date) {
	const id = `day-${key}`;
	return h("section", { "data-day": key, "aria-labelledby": id },
		h("h2.day", { id }, dayInWords(date)), h("ol.events"));
}

function createRow(first) {
	const picture = h("div.thumb");
	const title = h("a", { href: `#/events/${encodeURIComponent(first.id)}` });
	const facts = h("p.quiet");
	const when = h("p");
	const element = h("li.event", { "data-event": first.id, "data-start-ms": Date.parse(first.started_at) },
		picture, h("div.body", h("h3", title), when, facts));
	function show(event) {
		showPicture(picture, event, "crop", { lazy: true });
		setText(title, `${eventLabel(event)} at ${event.camera}`);
		element.dataset.type = event.type;
		const zones = event.visited_zones.length ? event.visited_zones : event.zones;
		replace(when, timeElement(event.started_at, { withDay: false }), " ",
			event.type === "end" ? h("span", { "data-field": "duration" }, `for ${durationText(event.duration_s)}`)
				: h("span.now", { "data-field": "duration" }, "in view now, for ", sinceElement(event.started_at)));
		replace(facts, `Score ${percent(event.score)}`, zones.length ? `, zones: ${zones.join(", ")}` : "",
			event.best ? [", best seen at ", timeElement(event.best.at, { withDay: false })] : "");
	}
	show(first);
	return { element, show };
}
