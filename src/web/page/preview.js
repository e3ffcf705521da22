// Asks the daemon what the last minutes would have been with the values of the setup; shows it over the picture
// and as a list. Newer values replace those that are asked for.

import { isAborted, post } from "./api.js";
import { button, h, replace, s, setText } from "./dom.js";
import { count } from "./text.js";
import { durationText, timeElement } from "./time.js";

const DELAY_MS = 300;
// Somebody else asks as well.
const RETRY_MS = 1500;
const MAX_LISTED = 100;

export class Preview {
	#scope;
	#name;
	#editor;
	#status = h("p#preview-status", { role: "status" }, "Not asked yet.");
	#list = h("ul#preview-tracks.tracks");
	#values = null;
	#cancelDelay = () => {};
	#asked = new AbortController();
	#result = null;
	#marked = null;

	constructor(scope, name, editor) {
		this.#scope = scope;
		this.#name = name;
		this.#editor = editor;
		this.element = h("div", this.#status, this.#list,
			h("p.quiet", "Solid lines would be reported, dashed ones not. An object that the camera did not notice has no label here, "
				+ "because its picture is not kept. What was there from the beginning is background."),
			h("div.actions", button("#preview-again", "Look again", () => this.schedule(this.#values, 0))));
	}

	/** Asks with these values after a short pause. */
	schedule(values, delayMs = DELAY_MS) {
		this.#values = values;
		this.#cancelDelay();
		this.#cancelDelay = this.#scope.after(delayMs, () => this.#ask());
	}

	async #ask() {
		this.#asked.abort();
		this.#asked = new AbortController();
		const { signal } = this.#asked;
		this.element.setAttribute("aria-busy", "true");
		try {
			this.#show(await post(["cameras", this.#name, "preview"], this.#values, AbortSignal.any([signal, this.#scope.signal])));
		} catch (error) {
			if (isAborted(error)) return;
			if (error.status === 409) return this.schedule(this.#values, RETRY_MS);
			this.#show(null, `There is no preview: ${error.message}`);
		}
		this.element.removeAttribute("aria-busy");
	}

	#show(result, problem) {
		this.#result = result;
		this.#marked = null;
		if (!result) {
			setText(this.#status, problem);
			replace(this.#list);
			return this.draw();
		}
		const { tracks, seconds, frames, omitted, until } = result;
		const reported = tracks.filter((track) => track.reported).length;
		const more = tracks.length - Math.min(tracks.length, MAX_LISTED) + omitted;
		replace(this.#status, `In ${durationText(seconds)} (${count(frames, "frame")}) until `, timeElement(until),
			`: ${count(reported, "object")} reported, ${tracks.length - reported + omitted} not.`);
		replace(this.#list, ...tracks.slice(0, MAX_LISTED).map((track, index) => this.#item(track, index)),
			more > 0 && h("li", `${more} more are not listed.`));
		this.draw();
	}

	#item({ label, reported, first_s: first, last_s: last, zones, why }, index) {
		const at = new Date(Date.parse(this.#result.until) + first * 1000).toISOString();
		return h("li", { "data-track": index, "data-reported": String(reported) },
			button(".plain", `${reported ? "" : "Not reported: "}${label ?? "unknown"}`, () => this.#mark(index), { "aria-pressed": "false" }),
			" ", timeElement(at), `, for ${durationText(last - first)}`, zones.length > 0 && `, in ${zones.join(", ")}`,
			why && h("span.why", ` – ${why}`));
	}

	#mark(index) {
		this.#marked = this.#marked === index ? null : index;
		for (const item of this.#list.querySelectorAll("[data-track]")) {
			item.firstChild.setAttribute("aria-pressed", String(Number(item.dataset.track) === this.#marked));
		}
		this.draw();
	}

	/** Draws the tracks over the picture. Also called when its size has changed. */
	draw() {
		const { tracks, size } = this.#result ?? { tracks: [], size: [1, 1] };
		const toPixels = ([x, y]) => this.#editor.toPixels([x / size[0], y / size[1]]);
		replace(this.#editor.underlay, ...tracks.map(({ path, box, reported }, index) => {
			const points = path.map((point) => toPixels(point).map((value) => value.toFixed(1)).join(",")).join(" ");
			const [x, y] = toPixels(box);
			const [width, height] = toPixels(box.slice(2));
			const [cx, cy] = toPixels(path.at(-1) ?? box);
			return s("g", { class: `track${reported ? "" : " unreported"}${index === this.#marked ? " marked" : ""}` },
				s("polyline.under", { points }), s("polyline.line", { points }), s("circle.end", { cx, cy, r: 3 }),
				(reported || index === this.#marked) && s("rect.line", { x, y, width, height }));
		}));
	}
}
