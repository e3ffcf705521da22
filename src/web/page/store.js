// The cameras as the page knows them: fetched once, then kept current by the stream of changes.
//
// Events: "camera" (detail: the camera that changed), "cameras" (the list was fetched, or could not be).

import { get, isAborted } from "./api.js";
import { changes } from "./changes.js";

const RETRY_MS = 5_000;

class Store extends EventTarget {
	/** By name, in the daemon's order; null until they were fetched. */
	cameras = null;
	/** Why the cameras could not be fetched, or null. */
	problem = null;
	#loading = null;
	#loadAgain = false;
	#retryTimer = null;
	#changedMeanwhile = new Map();

	constructor() {
		super();
		changes.addEventListener("cameras", () => this.load());
		changes.addEventListener("refetch", () => this.load());
		changes.addEventListener("camera", ({ detail: camera }) => {
			if (this.#loading) this.#changedMeanwhile.set(camera.name, camera);
			if (!this.cameras?.has(camera.name)) return;
			this.cameras.set(camera.name, camera);
			this.dispatchEvent(new CustomEvent("camera", { detail: camera }));
		});
	}

	/** Fetches the cameras. A request made while another one is in flight follows it. */
	async load() {
		if (this.#loading) {
			this.#loadAgain = true;
			return;
		}
		clearTimeout(this.#retryTimer);
		this.#changedMeanwhile.clear();
		const controller = new AbortController();
		this.#loading = controller;
		try {
			const { cameras } = await get(["cameras"], {}, controller.signal);
			// A change that arrived while the answer was on its way is newer than the answer.
			this.cameras = new Map(cameras.map((camera) => [camera.name, this.#changedMeanwhile.get(camera.name) ?? camera]));
			this.problem = null;
		} catch (error) {
			if (isAborted(error)) return;
			this.problem = error.message;
			if (error.status !== 401) this.#retryTimer = setTimeout(() => this.load(), RETRY_MS);
		} finally {
			if (this.#loading === controller) this.#loading = null;
		}
		this.dispatchEvent(new Event("cameras"));
		if (this.#loadAgain) {
			this.#loadAgain = false;
			this.load();
		}
	}

	/** Forgets everything: nobody is logged in. */
	clear() {
		clearTimeout(this.#retryTimer);
		this.#loading?.abort();
		this.#loading = null;
		this.#loadAgain = false;
		this.cameras = null;
		this.problem = null;
	}
}

export const store = new Store();
