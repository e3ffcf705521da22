// The stream of changes: one EventSource for the whole page.
//
// Events of the exported object: "event" and "camera" (detail: the data), "cameras", "refetch" (changes may
// have been missed) and "state" (the connection was made or lost).

const RETRY_FIRST_MS = 1_000;
const RETRY_LAST_MS = 10_000;
// Browsers limit the connections to one host, so a tab in the background gives its own up.
const CLOSE_HIDDEN_AFTER_MS = 60_000;

class Changes extends EventTarget {
	/** "closed", "connecting", "live" or "reconnecting". */
	state = "closed";
	sinceMs = Date.now();
	#source = null;
	#retryTimer = null;
	#hiddenTimer = null;
	#retryMs = RETRY_FIRST_MS;
	#wanted = false;
	#wasOpen = false;
	#checkSession = () => {};

	/** Opens the stream. `checkSession` is called when the daemon refuses it. */
	open(checkSession) {
		this.#checkSession = checkSession;
		this.#wanted = true;
		if (!this.#source && !document.hidden) this.#connect();
	}

	close() {
		this.#wanted = false;
		this.#wasOpen = false;
		this.#disconnect();
		this.#setState("closed");
	}

	constructor() {
		super();
		document.addEventListener("visibilitychange", () => {
			clearTimeout(this.#hiddenTimer);
			if (!this.#wanted) return;
			if (document.hidden) {
				this.#hiddenTimer = setTimeout(() => this.#disconnect(), CLOSE_HIDDEN_AFTER_MS);
			} else if (!this.#source) {
				this.#connect();
			}
		});
	}

	#disconnect() {
		clearTimeout(this.#retryTimer);
		this.#source?.close();
		this.#source = null;
	}

	#connect() {
		this.#disconnect();
		if (this.state === "closed") this.#setState("connecting");
		const source = new EventSource("./api/v1/changes");
		this.#source = source;
		source.addEventListener("open", () => {
			this.#retryMs = RETRY_FIRST_MS;
			this.#setState("live");
			if (this.#wasOpen) this.dispatchEvent(new Event("refetch"));
			this.#wasOpen = true;
		});
		source.addEventListener("error", () => {
			this.#setState("reconnecting");
			// The browser connects again by itself, unless the daemon or a proxy answered with an error.
			if (source.readyState !== EventSource.CLOSED || source !== this.#source) return;
			this.#source = null;
			this.#checkSession();
			this.#retryTimer = setTimeout(() => this.#wanted && !document.hidden && this.#connect(), this.#retryMs);
			this.#retryMs = Math.min(this.#retryMs * 2, RETRY_LAST_MS);
		});
		for (const type of ["event", "camera"]) {
			source.addEventListener(type, (message) => {
				try {
					this.dispatchEvent(new CustomEvent(type, { detail: JSON.parse(message.data) }));
				} catch {
					this.dispatchEvent(new Event("refetch"));
				}
			});
		}
		source.addEventListener("cameras", () => this.dispatchEvent(new Event("cameras")));
		source.addEventListener("missed", () => this.dispatchEvent(new Event("refetch")));
	}

	#setState(state) {
		if (state === this.state) return;
		this.state = state;
		this.sinceMs = Date.now();
		this.dispatchEvent(new Event("state"));
	}
}

export const changes = new Changes();
