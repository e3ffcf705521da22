// The first view: all cameras, each with its last picture and its state.

import { getPicture, isAborted } from "./api.js";
import { h, replace, setText, setWords } from "./dom.js";
import { store } from "./store.js";
import { count, healthText, number, occupancyText, statusLine } from "./text.js";

const REFRESH_MS = 2_000;
// A camera that delivers nothing is asked less often.
const REFRESH_IDLE_MS = 6_000;

export function openCameras(main, { scope }) {
	const status = h("p#cameras-status", { role: "status" }, "Fetching the cameras.");
	const grid = h("ul#cameras.cameras");
	main.append(h("h1", "Cameras"), status, grid);

	const cards = new Map();
	const inView = scope.observe(new IntersectionObserver((entries) => {
		for (const { target, isIntersecting } of entries) {
			const card = cards.get(target.dataset.camera);
			if (card?.element === target) card.setVisible(isIntersecting);
		}
	}));

	function showAll() {
		const cameras = store.cameras;
		setWords(status, store.problem ? `The cameras could not be fetched: ${store.problem} Trying again.`
			: !cameras ? "Fetching the cameras."
			: cameras.size === 0 ? "No cameras are configured. Add one to the configuration file." : "");
		if (!cameras) return;
		for (const [name, card] of cards) {
			if (cameras.has(name)) continue;
			inView.unobserve(card.element);
			card.close();
			cards.delete(name);
		}
		const elements = [...cameras.values()].map((camera) => {
			let card = cards.get(camera.name);
			if (!card) {
				card = createCard(camera.name);
				cards.set(camera.name, card);
				inView.observe(card.element);
			}
			card.show(camera);
			return card.element;
		});
		// Only a changed list is replaced: the focus stays where it is.
		if (elements.length !== grid.children.length || elements.some((element, index) => grid.children[index] !== element)) {
			replace(grid, ...elements);
		}
	}

	scope.listen(store, "cameras", showAll);
	scope.listen(store, "camera", ({ detail: camera }) => cards.get(camera.name)?.show(camera));
	scope.listen(document, "visibilitychange", () => {
		for (const card of cards.values()) card.refresh();
	});
	scope.onClose(() => {
		for (const card of cards.values()) card.close();
	});
	showAll();
	return { title: "Cameras" };
}

function createCard(name) {
	const address = `#/cameras/${encodeURIComponent(name)}`;
	const image = h("img", { alt: "", hidden: true });
	const words = h("p.words", "Waiting for a picture.");
	const picture = h("a.frame", { href: address, tabindex: "-1", "aria-hidden": "true" }, image, words);
	const stateLine = h("p.status-line", { "data-field": "status" });
	const health = h("p.problem", { "data-field": "health", hidden: true });
	const seen = h("p", { "data-field": "occupancy" });
	const speed = h("p.quiet", { "data-field": "speed" });
	const element = h("li.panel.camera", { "data-camera": name },
		picture,
		h("div.body",
			h("h2", h("a", { href: address }, name)), stateLine, health, seen, speed,
			h("p.links",
				h("a", { href: `#/events?camera=${encodeURIComponent(name)}`, "aria-label": `Events of ${name}` }, "Events"),
				h("a", { href: `${address}/setup`, "aria-label": `Setup of ${name}` }, "Setup"))));

	const controller = new AbortController();
	let camera = null;
	let isVisible = false;
	let isLoading = false;
	let timer = null;
	let pictureUrl = null;
	let shownStatus = "";

	async function refresh() {
		if (isLoading || timer !== null || !isVisible || document.hidden || controller.signal.aborted) return;
		isLoading = true;
		try {
			const blob = await getPicture(["cameras", name, "picture"], controller.signal);
			await showPicture(blob);
		} catch (error) {
			if (isAborted(error)) return;
			if (pictureUrl === null) setText(words, error.status === 0 ? "No picture." : error.message);
			picture.classList.toggle("old", pictureUrl !== null);
		} finally {
			isLoading = false;
		}
		timer = setTimeout(() => {
			timer = null;
			refresh();
		}, camera?.status.state === "live" ? REFRESH_MS : REFRESH_IDLE_MS);
	}

	async function showPicture(blob) {
		const url = URL.createObjectURL(blob);
		image.src = url;
		try {
			await image.decode();
			image.hidden = false;
			words.hidden = true;
			picture.classList.remove("old");
		} catch {
			// A picture that cannot be decoded is replaced by the next one.
		}
		if (pictureUrl) URL.revokeObjectURL(pictureUrl);
		pictureUrl = url;
		if (controller.signal.aborted) URL.revokeObjectURL(url);
	}

	return {
		element,
		refresh,
		setVisible(visible) {
			isVisible = visible;
			refresh();
		},
		show(newCamera) {
			camera = newCamera;
			const { status, stats } = camera;
			const statusKey = JSON.stringify([status.state, status.reason, status.since]);
			if (statusKey !== shownStatus) replace(stateLine, ...statusLine(status));
			shownStatus = statusKey;
			setWords(health, healthText(status) && `Image: ${healthText(status)}`);
			setWords(seen, camera.occupancy && `In view: ${occupancyText(camera.occupancy)}`);
			setWords(speed, [
				stats.analysed_fps === null ? "" : `${number(stats.analysed_fps)} frames/s`,
				stats.latency_ms === null ? "" : `latency ${number(stats.latency_ms, 0)} ms`,
				stats.restarts > 0 ? count(stats.restarts, "restart") : "",
			].filter(Boolean).join(", "));
		},
		close() {
			controller.abort();
			clearTimeout(timer);
			if (pictureUrl) URL.revokeObjectURL(pictureUrl);
			pictureUrl = null;
		},
	};
}
