// The lifetime of a view: everything that a view starts is stopped when its scope is closed.

export class Scope {
	#controller = new AbortController();
	#closers = new Set();

	/** Aborted when the scope is closed; for fetch and addEventListener. */
	get signal() {
		return this.#controller.signal;
	}

	get closed() {
		return this.signal.aborted;
	}

	listen(target, type, listener) {
		target.addEventListener(type, listener, { signal: this.signal });
	}

	every(intervalMs, callback) {
		const timer = setInterval(callback, intervalMs);
		this.onClose(() => clearInterval(timer));
	}

	/** Calls a function once; returns a function that cancels the call. */
	after(delayMs, callback) {
		const timer = setTimeout(() => {
			forget();
			callback();
		}, delayMs);
		const forget = this.onClose(() => clearTimeout(timer));
		return () => {
			clearTimeout(timer);
			forget();
		};
	}

	/** Waits; resolves early when the scope is closed. */
	sleep(delayMs) {
		return new Promise((resolve) => {
			const forget = this.onClose(resolve);
			this.after(delayMs, () => {
				forget();
				resolve();
			});
		});
	}

	/** Disconnects an observer when the scope is closed. */
	observe(observer) {
		this.onClose(() => observer.disconnect());
		return observer;
	}

	/** Calls a function when the scope is closed; returns a function that takes this back. */
	onClose(callback) {
		this.#closers.add(callback);
		return () => this.#closers.delete(callback);
	}

	/** A scope that ends with this one, or earlier. */
	child() {
		const child = new Scope();
		child.onClose(this.onClose(() => child.close()));
		return child;
	}

	close() {
		this.#controller.abort();
		for (const callback of this.#closers) callback();
		this.#closers.clear();
	}
}
