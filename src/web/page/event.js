// One event: its pictures, its path, and everything known about it.

import { get, isAborted } from "./api.js";
import { changes } from "./changes.js";
import { button, facts, fitStage, h, panel, replace, s, setText } from "./dom.js";
import { lastListAddress } from "./events.js";
import { showPicture } from "./picture.js";
import { eventLabel, percent } from "./text.js";
import { durationText, minuteText, sinceElement, timeElement } from "./time.js";

const KINDS = [["annotated", "Annotated"], ["frame", "Frame"], ["crop", "Object"], ["path", "Path"]];

export function openEvent(main, { scope, parameters: { id }, setTitle }) {
	const heading = h("h1", "Event");
	const status = h("p#event-status", { role: "status" }, "Fetching the event.");
	const box = h("div#event-picture.event-picture");
	const paths = s("svg#event-path.paths", { hidden: true });
	const stage = h("div.stage", box, paths);
	const pathWords = h("p#event-path-words.quiet", { hidden: true });
	const kinds = h("fieldset#event-kinds.toggles", h("legend", "Picture"),
		KINDS.map(([kind, text]) => h("label", h("input", {
			type: "radio", name: "kind", value: kind, "data-kind": kind, checked: kind === "annotated",
			onchange: () => {
				shownKind = kind;
				showStage();
			},
		}), " ", text)));
	const details = h("div#event-facts");
	const content = h("div.live", { hidden: true },
		h("div", stage, kinds, pathWords),
		h("div.side", panel("event-details", "Details", details)));
	main.append(h("div.view-head", heading,
		h("nav.tabs", { "aria-label": "Event" }, h("a#event-back", { href: lastListAddress }, "Back to the events"))), status, content);

	let event = null;
	let shownKind = "annotated";

	function show(newEvent) {
		event = newEvent;
		status.hidden = true;
		content.hidden = false;
		const title = `${eventLabel(event)} at ${event.camera}`;
		setText(heading, title);
		setTitle(`${title}, ${minuteText(event.started_at)}`);
		showStage();
		const link = `#/cameras/${encodeURIComponent(event.camera)}`;
		replace(details, facts([
			["Camera", h("a", { href: link }, event.camera)],
			["Label", event.label_path.length ? event.label_path.join(" → ") : event.label],
			["Score", percent(event.score)],
			["Started", timeElement(event.started_at)],
			["Duration", event.type === "end" ? durationText(event.duration_s) : ["in view now, for ", sinceElement(event.started_at)]],
			["Last seen", timeElement(event.seen_at)],
			["Ended because", event.type === "end" ? event.reason : null],
			["Best seen", event.best ? timeElement(event.best.at) : null],
			["Moving", event.type === "end" ? null : event.moving ? "yes" : "no"],
			["In zones", event.type === "end" ? null : event.zones.join(", ")],
			["Visited zones", event.visited_zones.length ? event.visited_zones.join(", ") : "none"],
			["Identifier", h("code", event.id)],
		]));
	}

	function showStage() {
		const isPath = shownKind === "path";
		const [width, height] = event.size;
		fitStage(stage, shownKind === "crop" ? [1, 1] : event.size);
		// Only objects that have ended have one.
		const path = event.path ?? [];
		const hasPath = path.length > 0;
		showPicture(box, event, isPath ? "frame" : shownKind, { alt: pictureText(event, shownKind) });
		paths.toggleAttribute("hidden", !isPath);
		paths.setAttribute("viewBox", `0 0 ${width} ${height}`);
		pathWords.hidden = !isPath;
		setText(pathWords, hasPath
			? "The line is the way of the object's foot point, from the ring to the dot. The dashed box is the best moment."
			: "No path is known.");
		if (!isPath) return paths.replaceChildren();
		const unit = width / 160;
		const points = path.map((point) => point.join(",")).join(" ");
		const [startX, startY] = path[0] ?? [];
		const [endX, endY] = path.at(-1) ?? [];
		const [left, top, boxWidth, boxHeight] = event.best?.box ?? event.box;
		replace(paths,
			s("rect.path-box", { x: left, y: top, width: boxWidth, height: boxHeight }),
			hasPath ? [s("polyline.path-under", { points }), s("polyline.path-line", { points }),
				s("circle.path-start", { cx: startX, cy: startY, r: unit }),
				s("circle.path-end", { cx: endX, cy: endY, r: unit })] : null);
	}

	async function load() {
		try {
			show(await get(["events", id], {}, scope.signal));
		} catch (error) {
			if (isAborted(error)) return;
			content.hidden = true;
			status.hidden = false;
			replace(status, error.status === 404
				? "There is no such event. The history may have been shortened, or the address is wrong. "
				: `The event could not be fetched: ${error.message} `,
			error.status === 404 ? h("a", { href: "#/events" }, "All events") : button("", "Try again", load));
		}
	}

	scope.listen(changes, "event", ({ detail }) => detail.id === id && show(detail));
	scope.listen(changes, "refetch", load);
	load();
	return { title: "Event" };
}

function pictureText(event, kind) {
	const what = eventLabel(event);
	return {
		annotated: `The frame with a box around the ${what}`,
		frame: `The whole frame with the ${what}`,
		crop: `The ${what}, cut out`,
		path: `The whole frame with the way of the ${what}`,
	}[kind];
}
