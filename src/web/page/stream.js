// Reads the parts of a multipart/x-mixed-replace stream by their Content-Length.

const MAX_HEADER_BYTES = 1 << 20;
const MAX_BODY_BYTES = 32 << 20;
const LINE_END = "\r\n";

/** Bytes that have been received and not been consumed yet. Grows to the largest part and is used again. */
class ByteQueue {
	#bytes = new Uint8Array(1 << 16);
	#start = 0;
	#end = 0;

	get length() {
		return this.#end - this.#start;
	}

	push(chunk) {
		if (this.#end + chunk.length > this.#bytes.length) {
			const needed = this.length + chunk.length;
			const target = needed > this.#bytes.length ? new Uint8Array(Math.max(needed, this.#bytes.length * 2)) : this.#bytes;
			target.set(this.#bytes.subarray(this.#start, this.#end));
			this.#end = this.length;
			this.#start = 0;
			this.#bytes = target;
		}
		this.#bytes.set(chunk, this.#end);
		this.#end += chunk.length;
	}

	/** The position after the first empty line at or after `from`, or -1. */
	endOfHeader(from) {
		const bytes = this.#bytes;
		for (let at = this.#start + from; at + 3 < this.#end; at += 1) {
			if (bytes[at] === 13 && bytes[at + 1] === 10 && bytes[at + 2] === 13 && bytes[at + 3] === 10) {
				return at + 4 - this.#start;
			}
		}
		return -1;
	}

	/** Removes bytes and returns them as a copy. */
	take(length) {
		const taken = this.#bytes.slice(this.#start, this.#start + length);
		this.#start += length;
		return taken;
	}
}

/**
 * Splits a stream into its parts. Throws if the stream is not in the format.
 * @param {ReadableStream<Uint8Array>} body
 * @param {(part: {headers: Map<string, string>, bytes: Uint8Array}) => void} onPart
 * @returns {Promise<void>} resolves when the stream ends
 */
export async function readParts(body, onPart) {
	const reader = body.getReader();
	const queue = new ByteQueue();
	const decoder = new TextDecoder();
	let headers = null;
	let bodyBytes = 0;
	let searchedBytes = 0;
	try {
		for (;;) {
			const { done, value } = await reader.read();
			if (done) return;
			queue.push(value);
			for (;;) {
				if (headers === null) {
					const end = queue.endOfHeader(searchedBytes);
					if (end === -1) {
						if (queue.length > MAX_HEADER_BYTES) throw new Error("The header of a part is too long.");
						searchedBytes = Math.max(0, queue.length - 3);
						break;
					}
					headers = parseHeader(decoder.decode(queue.take(end)));
					searchedBytes = 0;
					bodyBytes = Number(headers.get("content-length"));
					if (!headers.has("content-length") || !(bodyBytes >= 0 && bodyBytes <= MAX_BODY_BYTES)) {
						throw new Error("A part has no valid length.");
					}
				}
				if (queue.length < bodyBytes) break;
				onPart({ headers, bytes: queue.take(bodyBytes) });
				headers = null;
			}
		}
	} finally {
		reader.cancel().catch(() => {});
	}
}

/** Parses the boundary line and the header lines of a part. Header names are in lower case. */
function parseHeader(text) {
	const lines = text.split(LINE_END).filter((line) => line !== "");
	if (!lines[0]?.startsWith("--")) throw new Error("A part does not start with the boundary.");
	const headers = new Map();
	for (const line of lines.slice(1)) {
		const colon = line.indexOf(":");
		if (colon > 0) headers.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
	}
	return headers;
}
