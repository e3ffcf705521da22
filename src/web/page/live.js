// The live view of one camera: the stream of analysed frames with what the daemon sees drawn over it.

import { apiUrl, isAborted, post, send } from "./api.js";
import { button, facts, fitStage, h, panel, problemLine, replace, setText, setWords } from "./dom.js";
import { Overlay, Tracks } from "./overlay.js";
import { store } from "./store.js";
import { readParts } from "./stream.js";
import { count, healthText, listInWords, number, occupancyText, percent, stateText, statusLine } from "./text.js";
import { sinceElement } from "./time.js";

const REOPEN_FIRST_MS = 1_000;
const REOPEN_LAST_MS = 10_000;
const SILENT_AFTER_MS = 8_000;
const REOPEN_SILENT_AFTER_MS = 30_000;
const ANNOUNCE_EVERY_MS = 5_000;
const DETAILS_EVERY_MS = 1_000;
const STORAGE_KEY = "camfire.live.show";
const TOGGLES = [["zones", "Zones"], ["masks", "Masks"], ["regions", "Regions"], ["motion", "Motion"], ["details", "Details"]];

export function openLive(main, { scope, session, parameters: { name } }) {
	const show = readToggles();
	const canvas = h("canvas", { id: "live-canvas", role: "img", "aria-label": `Live picture of ${name}` });
	const stage = h("div#live-stage.stage", canvas);
	const streamWords = h("p#live-status.stage-words", { role: "status" }, "Opening the live picture.");
	stage.append(streamWords);
	const announced = h("p#live-objects.visually-hidden", { "aria-live": "polite" });
	const detailRows = h("tbody");
	const details = panel("live-details", "Objects",
		h("div.scroll", { tabindex: "0", role: "group", "aria-label": "Table of objects" }, h("table",
			h("thead", h("tr", ["Object", "Score", "Best classes", "Reported"].map((text) => h("th", { scope: "col" }, text)))),
			detailRows)));
	const cameraFacts = h("div#live-facts");
	const watch = button("#live-watch", "", toggleWatching, { hidden: true });
	const problem = problemLine("live-problem");
	const content = h("div.live",
		h("div", stage,
			h("fieldset#live-toggles.toggles", h("legend", "Show"),
				TOGGLES.map(([key, text]) => h("label", h("input", {
					type: "checkbox", name: key, "data-toggle": key, checked: show[key],
					onchange: (event) => setToggle(key, event.target.checked),
				}), " ", text))),
			details),
		h("div.side", panel("live-state", "State", cameraFacts, problem, watch)));
	const gone = h("div#camera-gone", { role: "status", hidden: true });
	main.append(cameraHead(name, "live"), gone, content, announced);

	const context = canvas.getContext("2d", { alpha: false });
	const overlay = new Overlay();
	const tracks = new Tracks();
	let camera = null;
	/** The part that waits for being decoded; a newer one replaces it. */
	let waiting = null;
	let isDecoding = false;
	/** The shown picture and its data. */
	let shown = null;
	let stream = null;
	let lastPartMs = null;
	let announcedMs = 0;
	let detailedMs = 0;
	scope.onClose(() => {
		shown?.bitmap.close();
		shown = null;
		waiting = null;
	});

	function setToggle(key, value) {
		show[key] = value;
		try {
			localStorage.setItem(STORAGE_KEY, JSON.stringify(show));
		} catch {
			// The browser may not allow storage. Then the choice lasts as long as the view.
		}
		details.hidden = !show.details;
		if (show.details && shown) showDetails(shown.frame);
		paint();
	}

	// --- The camera ---

	function showCamera() {
		if (!store.cameras) return;
		camera = store.cameras.get(name) ?? null;
		content.hidden = camera === null;
		gone.hidden = camera !== null;
		if (!camera) {
			if (gone.childElementCount === 0) replace(gone, ...goneWords(name));
			closeStream();
			return;
		}
		replace(gone);
		const { status, stats, settings } = camera;
		if (camera.size) fitStage(stage, camera.size);
		replace(cameraFacts, h("p.status-line", { "data-field": "status" }, ...statusLine(status)), facts([
			["Image", healthText(status) ?? (status.state === "live" ? status.health : null)],
			["In view", occupancyText(camera.occupancy)],
			["Zones", zonesText(camera.occupancy)],
			...Object.entries(camera.region_states ?? {}).map(([region, { state, score, since }]) =>
				[`Region ${region}`, state, score !== null && score !== undefined ? ` ${percent(score)}` : "", " for ", sinceElement(since)]),
			["Analysed", stats.analysed_fps === null ? null : `${number(stats.analysed_fps)} frames/s of ${number(settings.rate_fps)} wanted`],
			["Latency", stats.latency_ms === null ? null : `${number(stats.latency_ms, 0)} ms`],
			["Frames", `${stats.captured} captured, ${stats.analysed} analysed, ${stats.skipped_still} skipped while still, `
				+ `${stats.shed} shed, ${stats.dropped} dropped, ${stats.failed} failed`],
			["Restarts", String(stats.restarts)],
			["Size", camera.size ? `${camera.size[0]} × ${camera.size[1]}` : null],
			["Pipeline", status.pipeline, status.transport ? ` over ${status.transport}` : ""],
			["Not used", (status.passed_over ?? []).map(({ pipeline, reason }) => `${pipeline}: ${reason}`).join("; ")],
			["Clock", status.clock ? clockText(status.clock) : null],
		]));
		const isPaused = status.state === "paused" || settings.watching === false;
		watch.hidden = session.role !== "admin";
		setText(watch, isPaused ? "Resume watching" : "Pause watching");
		watch.dataset.do = isPaused ? "resume" : "pause";
		showStreamState();
		openStream();
		paint();
	}

	async function toggleWatching() {
		watch.disabled = true;
		setWords(problem, "");
		try {
			await post(["cameras", name, "command"], { do: watch.dataset.do }, scope.signal);
		} catch (error) {
			if (!isAborted(error)) setWords(problem, error.message);
		}
		watch.disabled = false;
	}

	// --- The stream ---

	function openStream() {
		if (stream || document.hidden || scope.closed || !camera) return;
		stream = scope.child();
		keepReading(stream);
	}

	function closeStream() {
		stream?.close();
		stream = null;
		waiting = null;
	}

	async function keepReading(reading) {
		let delayMs = REOPEN_FIRST_MS;
		while (!reading.closed) {
			lastPartMs = null;
			let ending = "The live picture has ended.";
			const attempt = reading.child();
			reading.attempt = attempt;
			reading.openedMs = performance.now();
			try {
				const response = await send("GET", apiUrl(["cameras", name, "live"]), { signal: attempt.signal });
				await readParts(response.body, (part) => {
					if (attempt.closed) return;
					delayMs = REOPEN_FIRST_MS;
					lastPartMs = performance.now();
					waiting = part;
					decodeNewest();
				});
			} catch (error) {
				if (reading.closed) return;
				// A TypeError is a connection that broke; its message differs between browsers.
				if (!isAborted(error) && error.name !== "TypeError") ending = error.message;
			}
			attempt.close();
			if (reading.closed) return;
			setWords(streamWords, `${ending} It is opened again in ${Math.round(delayMs / 1000)} s.`);
			reading.isWaiting = true;
			await reading.sleep(delayMs);
			reading.isWaiting = false;
			delayMs = Math.min(delayMs * 2, REOPEN_LAST_MS);
			showStreamState();
		}
	}

	/** Decodes the newest part. Parts that arrive meanwhile replace each other. */
	async function decodeNewest() {
		if (isDecoding) return;
		isDecoding = true;
		while (waiting && !scope.closed) {
			const part = waiting;
			waiting = null;
			try {
				const frame = JSON.parse(part.headers.get("camfire-frame"));
				const bitmap = await createImageBitmap(new Blob([part.bytes], { type: "image/jpeg" }));
				if (scope.closed) {
					bitmap.close();
					break;
				}
				tracks.add(frame.objects);
				shown?.bitmap.close();
				shown = { bitmap, frame };
				fitStage(stage, frame.size);
				paint();
				if (!stream?.isWaiting) setWords(streamWords, "");
				announce(frame);
				if (show.details && performance.now() - detailedMs >= DETAILS_EVERY_MS) showDetails(frame);
				canvas.dataset.frames = Number(canvas.dataset.frames ?? 0) + 1;
			} catch {
				// A part that is not valid is left out; the next one follows.
			}
		}
		isDecoding = false;
	}

	/** Says what the stream is doing, unless pictures arrive. */
	function showStreamState() {
		if (!camera || scope.closed || stream?.isWaiting) return;
		if (document.hidden) return setWords(streamWords, "The live picture is stopped while the page is not visible.");
		const silentMs = lastPartMs === null ? Infinity : performance.now() - lastPartMs;
		const { state, reason } = camera.status;
		if (silentMs < (state === "live" ? SILENT_AFTER_MS : 2_000)) return;
		if (state !== "live") {
			setWords(streamWords, `The camera is ${stateText(state)}${reason ? `: ${reason}` : ""}.`);
		} else if (lastPartMs === null) {
			setWords(streamWords, "Opening the live picture.");
		} else {
			setWords(streamWords, `No picture for ${Math.round(silentMs / 1000)} s.`);
		}
		// The connection may be dead without having been closed.
		const quietSinceMs = lastPartMs ?? stream?.openedMs ?? performance.now();
		if (state === "live" && performance.now() - quietSinceMs > REOPEN_SILENT_AFTER_MS) stream?.attempt?.close();
	}

	// --- Drawing ---

	function paint() {
		if (!shown || canvas.width === 0) return;
		const ratio = devicePixelRatio;
		const area = { width: canvas.width / ratio, height: canvas.height / ratio };
		context.setTransform(1, 0, 0, 1, 0, 0);
		context.drawImage(shown.bitmap, 0, 0, canvas.width, canvas.height);
		context.setTransform(ratio, 0, 0, ratio, 0, 0);
		overlay.draw(context, area, { frame: shown.frame, camera, tracks, show });
	}

	scope.observe(new ResizeObserver(() => {
		const ratio = devicePixelRatio;
		const width = Math.round(stage.clientWidth * ratio);
		const height = Math.round(stage.clientHeight * ratio);
		if (width === 0 || (canvas.width === width && canvas.height === height)) return;
		Object.assign(canvas, { width, height });
		paint();
	})).observe(stage);

	// --- Words ---

	function announce(frame) {
		if (performance.now() - announcedMs < ANNOUNCE_EVERY_MS) return;
		announcedMs = performance.now();
		const objects = frame.objects.filter((object) => object.reported);
		const words = objects.slice(0, 8).map((object) => `${object.label}${object.moving ? ", moving" : ""}`);
		if (objects.length > 8) words.push(`${objects.length - 8} more`);
		setText(announced, words.length ? `In view: ${listInWords(words)}.` : "Nothing in view.");
	}

	function showDetails(frame) {
		detailedMs = performance.now();
		if (frame.objects.length === 0) {
			return replace(detailRows, h("tr", h("td", { colspan: "4" }, "No objects.")));
		}
		replace(detailRows, ...frame.objects.slice(0, 40).map((object) => h("tr", { "data-object": object.id },
			h("th", { scope: "row" }, object.label, object.sub_label ? ` (${object.sub_label})` : "", object.moving ? "" : ", still"),
			h("td", percent(object.score)),
			h("td", (object.top ?? []).slice(0, 5).map(({ label, score }) => h("div", `${label} ${percent(score)}`))),
			h("td", object.reported ? "yes" : `no: ${object.why ?? "the reason is not known"}`))));
	}

	details.hidden = !show.details;
	scope.listen(store, "cameras", showCamera);
	scope.listen(store, "camera", ({ detail }) => detail.name === name && showCamera());
	scope.listen(document, "visibilitychange", () => {
		if (document.hidden) closeStream();
		else openStream();
		showStreamState();
	});
	scope.every(1_000, showStreamState);
	showCamera();
	return { title: name };
}

/** The heading of a camera's views, with links to the others. */
export function cameraHead(name, current) {
	const address = `#/cameras/${encodeURIComponent(name)}`;
	const link = (href, text, key) => h("a", { href, "aria-current": key === current ? "page" : null }, text);
	return h("div.view-head", h("h1", current === "setup" ? `Setup of ${name}` : name),
		h("nav", { class: "tabs", "aria-label": `Camera ${name}` },
			link(address, "Live", "live"), link(`#/events?camera=${encodeURIComponent(name)}`, "Events", "events"),
			link(`${address}/setup`, "Setup", "setup")));
}

/** What is said when a camera has been renamed or removed, or never existed. */
export function goneWords(name) {
	return [h("p", `There is no camera named ${name}. It may have been renamed or removed.`),
		h("p", h("a", { href: "#/" }, "Back to the cameras"))];
}

function zonesText(occupancy) {
	const zones = Object.entries(occupancy?.zones ?? {}).filter(([, zone]) => zone.total > 0);
	return zones.map(([zone, inside]) => `${zone}: ${occupancyText(inside)}`).join("; ");
}

function clockText({ capture, offset_s: offsetS, fault }) {
	const offset = Number.isFinite(offsetS) ? `, ${count(Number(offsetS.toFixed(1)), "second")} off` : "";
	return `${capture}${offset}${fault ? `: ${fault}` : ""}`;
}

function readToggles() {
	const show = { zones: true, masks: false, regions: true, motion: false, details: false };
	try {
		Object.assign(show, JSON.parse(localStorage.getItem(STORAGE_KEY)));
	} catch {
		// The browser may not allow storage.
	}
	return show;
}
