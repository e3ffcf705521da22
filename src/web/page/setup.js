// The setup of a camera's view: masks, zones, regions and thresholds, which can be tried before saving.

import { get, getPicture, isAborted, post, put, remove } from "./api.js";
import { changes } from "./changes.js";
import { ask, offerText } from "./dialog.js";
import { button, fitStage, h, panel, replace, s, setText, setWords } from "./dom.js";
import { cornersRect, rectCorners } from "./geometry.js";
import { cameraHead, goneWords } from "./live.js";
import { Preview } from "./preview.js";
import { ShapeEditor } from "./shapes.js";
import { store } from "./store.js";

const MAX_UNDO = 50;
const PICTURE_RETRY_MS = 3_000;
const ZONE_NAME = /^[A-Za-z0-9_-]{1,64}$/;
const SHAPE_KEYS = ["masks", "zones", "regions"];
const SLIDERS = [
	{ key: "motion_threshold", text: "Motion threshold", min: 1, max: 60, step: 1,
		hint: "How much brightness must change. Lower finds objects of low contrast, higher ignores shadows." },
	{ key: "min_size", text: "Smallest object", min: 0.005, max: 0.5, step: 0.005,
		hint: "The longer side of an object as a fraction of the picture's width. Smaller ones are ignored." },
	{ key: "score", text: "Score", min: 0.05, max: 1, step: 0.01,
		hint: "How sure a label must be. Higher gives fewer, more reliable labels." },
];
const KEYS = [...SHAPE_KEYS, ...SLIDERS.map(({ key }) => key)];

/** Unsaved values of a camera. They outlive the end of the session and a reload of the page. */
const drafts = {
	read: (name) => JSON.parse(sessionStorage.getItem(`camfire.draft.${name}`)),
	write(name, values) {
		if (values) sessionStorage.setItem(`camfire.draft.${name}`, JSON.stringify(values));
		else sessionStorage.removeItem(`camfire.draft.${name}`);
	},
};

const copy = (value) => JSON.parse(JSON.stringify(value));

/** Whether two values are equal, whatever the order of their keys. */
function same(a, b) {
	if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return a === b;
	const keys = Object.keys(a);
	return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && same(a[key], b[key]));
}

export function openSetup(main, { scope, session, parameters: { name } }) {
	const isViewer = session.role !== "admin";
	const status = h("p#setup-status", { role: "status" }, "Fetching the setup.");
	const notice = h("p#setup-notice.notice.inset", { role: "status", hidden: true });
	const gone = h("div#camera-gone", { role: "status", hidden: true });
	const content = h("div#setup.live", { hidden: true });
	const bar = h("div#setup-bar.save-bar", { hidden: true });
	main.append(cameraHead(name, "setup"), gone, status, notice, content, bar);

	/** The daemon's answer, and the values as they are edited. */
	let setup = null;
	let draft = null;
	let undo = [];
	let problems = [];
	let selected = null;
	let isSaving = false;

	// --- Picture and editor ---

	const image = h("img", { alt: `Picture of ${name}`, class: "setup-picture" });
	const svg = s("svg#setup-shapes.shapes", { role: "application", "aria-label": "Shapes on the picture", "aria-describedby": "setup-help" });
	const pictureWords = h("p.words", { hidden: true });
	const stage = h("div.stage", image, pictureWords, svg);
	const words = h("p#setup-words", { role: "status" }, isViewer ? "" : "Choose a shape to change it, or draw a new one.");
	const newZone = button("#new-zone", "New zone", () => editor.startDrawing("zone"));
	const newMask = button("#new-mask", "New mask", () => editor.startDrawing("mask"));
	const close = button("#draw-close.primary", "Close the shape", () => editor.closeDrawing(), { hidden: true });
	const cancel = button("#draw-cancel", "Cancel", () => editor.cancelDrawing(), { hidden: true });
	const undoButton = button("#undo", "Undo", undoLast);
	const freshPicture = button("#new-picture", "New picture", loadPicture);
	const shapeList = h("div#shape-list");
	const sliders = h("div#setup-values");
	const general = h("div#setup-problems", { role: "alert" });
	const save = button("#save.primary", "Save", saveDraft);
	const discard = button("#discard", "Discard", discardDraft);
	const forget = button("#forget", "Forget my changes", forgetChanges);
	const copyText = button("#copy-toml", "Copy as text", copyToml);
	const barWords = h("p#save-status", { role: "status" });
	const savedWords = h("p#saved-words");
	bar.append(barWords, h("div.actions", discard, save), general);

	const editor = new ShapeEditor(svg, scope, {
		say: (text) => setText(words, text),
		onSelect: (key) => {
			selected = key;
			markSelected();
		},
		onGesture: remember,
		onEdit: (key, points) => {
			setPoints(key, points);
			changed();
		},
		onDelete: deleteShape,
		onDraw: addShape,
		onDrawing: (kind) => {
			for (const element of [newZone, newMask, undoButton]) element.hidden = kind !== null;
			for (const element of [close, cancel]) element.hidden = kind === null;
			if (kind) setText(words, `Click the corners of the ${kind}. A click on the first corner, Enter or a double click closes it, `
				+ "Escape cancels. By keyboard: arrows move a cross, Space sets a corner.");
			else newZone.focus({ preventScroll: true });
		},
		onResize: () => preview?.draw(),
	});
	const preview = isViewer ? null : new Preview(scope, name, editor);

	async function loadPicture() {
		freshPicture.disabled = true;
		try {
			const url = URL.createObjectURL(await getPicture(["cameras", name, "picture"], scope.signal));
			const old = image.src;
			image.src = url;
			if (old) URL.revokeObjectURL(old);
			await image.decode();
			if (image.naturalWidth) fitStage(stage, [image.naturalWidth, image.naturalHeight]);
			pictureWords.hidden = true;
		} catch (error) {
			if (!isAborted(error) && !image.src) {
				setWords(pictureWords, `No picture: ${error.message}`);
				scope.after(PICTURE_RETRY_MS, loadPicture);
			}
		}
		freshPicture.disabled = false;
	}
	scope.onClose(() => image.src && URL.revokeObjectURL(image.src));

	content.append(
		h("div", stage, words,
			isViewer ? null : h("div.actions", newZone, newMask, close, cancel, undoButton, freshPicture),
			h("details#setup-help.quiet", h("summary", "Keyboard"),
				h("p", "Tab goes from shape to shape, and through the corners and edges of the selected one. Arrows move a shape or a corner "
					+ "by 0.5 %, with Shift by 5 %. Delete removes a corner or a shape. Enter on an edge adds a corner."))),
		h("div.side",
			panel("shapes", "Shapes", shapeList),
			panel("values", "Values", sliders),
			isViewer ? null : panel("saved", "What this page has saved", savedWords, h("div.actions", forget, copyText))));

	if (preview) content.append(panel("preview", "What would have been seen", preview.element));

	// --- Draft ---

	const isDirty = () => setup !== null && !same(draft, setup.values);

	const pick = (isPicked) => Object.fromEntries(KEYS.filter(isPicked).map((key) => [key, draft[key]]));
	const isChanged = (key) => !same(draft[key], setup.values[key]);

	/** What is saved: all that this page has saved before, and what has been changed now. */
	const partial = () => pick((key) => key in setup.page || isChanged(key));

	function remember() {
		undo.push(copy(draft));
		if (undo.length > MAX_UNDO) undo.shift();
	}

	function undoLast() {
		const last = undo.pop();
		if (!last) return;
		draft = last;
		setText(words, "The last change was undone.");
		showDraft();
		changed();
	}

	/** Called after every change of the draft. */
	function changed() {
		problems = [];
		drafts.write(name, isDirty() ? pick(isChanged) : null);
		showProblems();
		showBar();
		showPreview();
	}

	function showPreview() {
		const { regions, ...values } = draft;
		preview?.schedule(copy(values));
	}

	// --- Shapes ---

	function shapes() {
		return [
			...draft.masks.map((points, index) => ({ key: `masks.${index}`, kind: "mask", title: `Mask ${index + 1}`, points })),
			...Object.entries(draft.zones).map(([zone, points]) => ({ key: `zones.${zone}`, kind: "zone", title: `Zone ${zone}`, points })),
			...Object.entries(draft.regions).map(([region, { rect }]) => ({
				key: `regions.${region}`, kind: "region", title: `Region ${region}`, points: rectCorners(rect),
			})),
		];
	}

	/** "zones.lawn" -> ["zones", "lawn"] */
	const splitKey = (key) => [key.slice(0, key.indexOf(".")), key.slice(key.indexOf(".") + 1)];

	function setPoints(key, points) {
		const [group, id] = splitKey(key);
		if (group === "regions") draft.regions[id] = { ...draft.regions[id], rect: cornersRect(points) };
		else draft[group][id] = points;
	}

	function addShape(kind, points) {
		remember();
		let key;
		if (kind === "mask") {
			draft.masks.push(points);
			key = `masks.${draft.masks.length - 1}`;
		} else {
			let index = 1;
			while (`zone-${index}` in draft.zones) index += 1;
			draft.zones[`zone-${index}`] = points;
			key = `zones.zone-${index}`;
		}
		selected = key;
		showDraft();
		changed();
		setText(words, kind === "mask" ? "The mask was added." : "The zone was added. Give it a name in the list.");
		if (kind === "zone") renameZone(splitKey(key)[1]);
		else editor.focus(key);
	}

	function deleteShape(key) {
		const [group, id] = splitKey(key);
		if (group === "regions") return setText(words, "A region cannot be deleted here. Remove it from the configuration file.");
		remember();
		if (group === "masks") draft.masks.splice(Number(id), 1);
		else delete draft.zones[id];
		selected = null;
		showDraft();
		changed();
		setText(words, `${group === "masks" ? `Mask ${Number(id) + 1}` : `Zone ${id}`} was deleted. Undo brings it back.`);
		undoButton.focus();
	}

	/** Shows a field in place of a zone's name. */
	function renameZone(zone) {
		const field = h("input", { "aria-label": `New name of zone ${zone}`, "data-rename": zone, value: zone, autocapitalize: "off" });
		const problem = h("p.problem", { role: "alert", hidden: true });
		const form = h("form.rename", { onsubmit: finish, onkeydown: (event) => event.key === "Escape" && stop() },
			field, h("button.small.primary", "Rename"), button(".small", "Cancel", stop), problem);
		replace(itemOf(`zones.${zone}`), form);
		field.focus();
		field.select();

		function stop() {
			showShapes();
			focusItem(`zones.${zone}`);
		}

		function finish(event) {
			event.preventDefault();
			const newName = field.value.trim();
			if (newName === zone) return stop();
			const wrong = !ZONE_NAME.test(newName) ? "A name has 1 to 64 letters (a-z, A-Z), digits, - or _."
				: Object.hasOwn(draft.zones, newName) ? "Another zone has this name." : null;
			if (wrong) return setWords(problem, wrong);
			remember();
			draft.zones = Object.fromEntries(Object.entries(draft.zones).map(([key, points]) => [key === zone ? newName : key, points]));
			selected = `zones.${newName}`;
			showDraft();
			changed();
			setText(words, `The zone is named ${newName}.`);
			focusItem(selected);
		}
	}

	const itemOf = (key) => shapeList.querySelector(`[data-shape-item="${CSS.escape(key)}"]`);
	const focusItem = (key) => itemOf(key)?.querySelector("button")?.focus();

	function showShapes() {
		const all = shapes();
		replace(shapeList, SHAPE_KEYS.map((group) => {
			const members = all.filter(({ key }) => splitKey(key)[0] === group);
			const title = { masks: "Masks", zones: "Zones", regions: "Regions" }[group];
			return h("div.shape-group",
				h("h3", title), h("p.quiet", { "data-origin": group }, originText(group)),
				members.length ? h("ul", members.map(shapeItem)) : h("p.quiet", "None."),
				h("p.problem", { "data-problem": group, hidden: true }));
		}));
		markSelected();
		showProblems();
	}

	function shapeItem({ key, kind, title }) {
		const id = splitKey(key)[1];
		return h("li", { "data-shape-item": key },
			button(`.plain.swatch.${kind}`, kind === "mask" ? title : id, () => {
				editor.select(key);
				selected = key;
				markSelected();
				editor.focus(key);
			}, { "data-select": key, "aria-label": title, "aria-pressed": "false" }),
			isViewer || kind !== "zone" ? null : button(".small", "Rename", () => renameZone(id), { "aria-label": `Rename ${title}` }),
			isViewer || kind === "region" ? null : button(".small", "Delete", () => deleteShape(key), { "aria-label": `Delete ${title}` }),
			h("p.problem", { "data-problem": key, hidden: true }));
	}

	function markSelected() {
		for (const element of shapeList.querySelectorAll("[data-select]")) {
			element.setAttribute("aria-pressed", String(element.dataset.select === selected));
		}
	}

	// --- Values ---

	function originText(key) {
		const origin = setup.origins[key];
		if (origin === "page") return "Saved on this page.";
		if (origin === "config") return `From the configuration file${setup.where[key] ? `: ${setup.where[key]}` : ""}.`;
		return "Default.";
	}

	function showSliders() {
		replace(sliders, SLIDERS.map(({ key, text, min, max, step, hint }) => {
			const value = draft[key];
			const limits = { min: Math.min(min, value), max: Math.max(max, value), disabled: isViewer, value };
			const range = h(`input#range-${key}`, { ...limits, type: "range", step, "aria-describedby": `hint-${key}` });
			const field = h(`input#number-${key}`, { ...limits, type: "number", step: "any", "aria-label": `${text} as a number` });
			range.value = value;
			// A drag of the slider is one step of Undo.
			let isGesture = false;
			function set(element, other) {
				if (element.value === "" || !element.checkValidity()) return;
				if (!isGesture) remember();
				isGesture = true;
				other.value = element.value;
				draft[key] = Number(element.value);
				changed();
			}
			range.addEventListener("input", () => set(range, field));
			field.addEventListener("input", () => set(field, range));
			field.addEventListener("blur", () => {
				field.value = draft[key];
			});
			for (const element of [range, field]) {
				element.addEventListener("change", () => {
					isGesture = false;
				});
			}
			return h("div.slider", { "data-value": key },
				h("div.slider-head", h("label", { for: `range-${key}` }, text), h("code", key)),
				h("div.slider-row", range, field),
				h(`p#hint-${key}.quiet`, hint),
				h("p.quiet", { "data-origin": key }, originText(key)),
				h("p.problem", { "data-problem": key, hidden: true }));
		}));
	}

	// --- Saving ---

	function showBar(text) {
		const dirty = isDirty();
		bar.hidden = isViewer;
		save.disabled = !dirty || !setup.can_save || isSaving;
		forget.disabled = Object.keys(setup.page).length === 0 || isSaving;
		discard.disabled = !dirty || isSaving;
		undoButton.disabled = undo.length === 0;
		const saved = KEYS.filter((key) => key in setup.page);
		replace(savedWords, saved.length ? `${saved.join(", ")}.` : "Nothing. The configuration file and the defaults apply.");
		setText(barWords, text ?? (dirty ? "There are unsaved changes." : "Nothing has been changed."));
	}

	/** Does a change at the daemon and shows its answer. */
	async function perform(request, done) {
		isSaving = true;
		problems = [];
		showProblems();
		showBar("Saving.");
		let text = done;
		try {
			const answer = await request();
			adopt(answer, true);
		} catch (error) {
			if (isAborted(error)) return;
			problems = problemsOf(error);
			text = "The changes were not saved.";
		}
		isSaving = false;
		showProblems();
		showBar(text);
	}

	function saveDraft() {
		perform(() => put(["cameras", name, "setup"], partial(), scope.signal), "Saved. The daemon uses the new values.");
	}

	async function forgetChanges() {
		const agreed = await ask({
			title: "Forget what was saved on this page?",
			text: `For ${name}, the values of the configuration file and the defaults apply again. Unsaved changes are discarded too.`,
			yes: "Forget my changes",
		});
		if (agreed && !scope.closed) {
			await perform(() => remove(["cameras", name, "setup"], scope.signal), "Forgotten. The values of the configuration file apply.");
		}
	}

	const problemsOf = ({ problems: listed, message }) => (listed.length ? listed : [{ key: "", message }]);

	function discardDraft() {
		remember();
		draft = copy(setup.values);
		showDraft();
		changed();
		showNotice();
		showBar("The unsaved changes were discarded. Undo brings them back.");
	}

	async function copyToml() {
		const values = partial();
		if (Object.keys(values).length === 0) return showBar("Nothing differs from the configuration file, so there is nothing to copy.");
		try {
			const { toml } = await post(["cameras", name, "setup", "toml"], values, scope.signal);
			await offerText("Text for the configuration file", toml);
		} catch (error) {
			if (isAborted(error)) return;
			problems = problemsOf(error);
			showProblems();
		}
	}

	/** Shows problems beside the shape or value that they belong to, the others above the buttons. */
	function showProblems() {
		const rest = new Set(problems);
		for (const element of content.querySelectorAll("[data-problem]")) {
			const mine = problems.filter((problem) => belongsTo(problem, element.dataset.problem));
			for (const problem of mine) rest.delete(problem);
			setWords(element, mine.map(({ message }) => message).join(" "));
		}
		replace(general, [...rest].map(({ key, message }) => h("p.problem", key ? `${key}: ${message}` : message)));
	}

	function belongsTo({ key }, place) {
		const prefix = `cameras.${name}.`;
		const plain = (key.startsWith(prefix) ? key.slice(prefix.length) : key).replace(/\[(\d+)\]/g, ".$1");
		const known = [...content.querySelectorAll("[data-problem]")].map((element) => element.dataset.problem)
			.filter((candidate) => plain === candidate || plain.startsWith(`${candidate}.`));
		return known.sort((a, b) => b.length - a.length)[0] === place;
	}

	// --- The view ---

	function showDraft() {
		editor.setShapes(shapes(), !isViewer);
		if (selected) editor.select(selected);
		showShapes();
		showSliders();
		showBar();
		showPreview();
	}

	/** Takes an answer of the daemon. Unsaved values are kept unless they have just been saved. */
	function adopt(answer, isMine = false) {
		if (!isMine && same(setup, answer)) return;
		const kept = isMine ? {} : pick(isChanged);
		setup = answer;
		draft = copy({ ...answer.values, ...kept });
		undo = [];
		drafts.write(name, isDirty() ? pick(isChanged) : null);
		showDraft();
		showNotice(isDirty() ? "The setup was changed elsewhere meanwhile. Your unsaved changes were kept." : "");
	}

	function showNotice(text) {
		setWords(notice, isViewer ? "You are logged in as viewer: the setup can be looked at, not changed."
			: !setup.can_save ? `Changes can be copied as text, not saved: ${setup.why_not ?? "the reason is not known"}`
			: text ?? "");
	}

	async function load() {
		try {
			const answer = await get(["cameras", name, "setup"], {}, scope.signal);
			status.hidden = true;
			content.hidden = false;
			if (setup) return adopt(answer);
			setup = answer;
			const kept = isViewer ? null : drafts.read(name);
			draft = copy(kept ? { ...answer.values, ...kept } : answer.values);
			const size = store.cameras?.get(name)?.size;
			if (size) fitStage(stage, size);
			showNotice(kept && isDirty() ? "Your unsaved changes were kept." : "");
			showDraft();
			loadPicture();
		} catch (error) {
			if (isAborted(error)) return;
			if (error.status === 404) return showGone();
			if (setup) return;
			replace(status, `The setup could not be fetched: ${error.message} `, button("", "Try again", load));
		}
	}

	function showGone() {
		replace(gone, ...goneWords(name));
		gone.hidden = false;
		status.hidden = true;
		content.hidden = true;
		bar.hidden = true;
		drafts.write(name, null);
		setup = null;
	}

	for (const type of ["cameras", "refetch"]) scope.listen(changes, type, () => isSaving || load());
	scope.listen(window, "beforeunload", (event) => isDirty() && event.preventDefault());
	load();

	return {
		title: `Setup of ${name}`,
		async mayLeave() {
			if (!isDirty()) return true;
			const leave = await ask({ title: "Leave without saving?", text: `The changes of ${name} have not been saved.`, yes: "Leave", no: "Stay" });
			if (leave) drafts.write(name, null);
			return leave;
		},
	};
}
