// Requests to the daemon. URLs are relative, because a reverse proxy may serve the page below a prefix.

import { noteServerTime } from "./time.js";

const BASE = "./api/v1";

/** A request that the daemon refused, or that did not reach it (status 0). */
export class ApiError extends Error {
	constructor(status, message, { problems = [], retryAfterS = null } = {}) {
		super(message);
		this.status = status;
		this.problems = problems;
		this.retryAfterS = retryAfterS;
	}
}

let whenLoggedOut = () => {};

/** Sets what happens when the daemon answers that nobody is logged in. */
export function onLoggedOut(callback) {
	whenLoggedOut = callback;
}

/** The URL of a resource: path segments are encoded, parameters that are null or empty are left out. */
export function apiUrl(segments, parameters = {}) {
	const query = new URLSearchParams();
	for (const [name, value] of Object.entries(parameters)) {
		if (value !== null && value !== undefined && value !== "") query.set(name, value);
	}
	const path = segments.map(encodeURIComponent).join("/");
	return `${BASE}/${path}${query.size ? `?${query}` : ""}`;
}

/** Sends a request and returns the response, whatever its content. Throws an ApiError unless it succeeded. */
export async function send(method, url, { body, signal } = {}) {
	let response;
	try {
		response = await fetch(url, {
			method,
			signal,
			credentials: "same-origin",
			headers: body === undefined && method === "GET" ? {} : { "Content-Type": "application/json" },
			body: body === undefined ? undefined : JSON.stringify(body),
		});
	} catch (error) {
		if (error.name === "AbortError") throw error;
		throw new ApiError(0, "The daemon does not answer.");
	}
	noteServerTime(response.headers.get("Date"));
	if (response.ok) return response;
	const details = await response.json().catch(() => ({}));
	const message = typeof details?.error === "string" ? details.error : `The daemon answered with status ${response.status}.`;
	const isLogin = method === "POST" && url === apiUrl(["session"]);
	if (response.status === 401 && !isLogin) whenLoggedOut();
	throw new ApiError(response.status, message, {
		problems: Array.isArray(details?.problems) ? details.problems : [],
		retryAfterS: Number.parseFloat(response.headers.get("Retry-After")) || null,
	});
}

async function json(method, url, options) {
	const response = await send(method, url, options);
	if (response.status === 204) return null;
	try {
		return await response.json();
	} catch (error) {
		if (error.name === "AbortError") throw error;
		throw new ApiError(0, "The daemon's answer is incomplete.");
	}
}

export const get = (segments, parameters, signal) => json("GET", apiUrl(segments, parameters), { signal });
export const post = (segments, body, signal) => json("POST", apiUrl(segments), { body, signal });
export const put = (segments, body, signal) => json("PUT", apiUrl(segments), { body, signal });
export const remove = (segments, signal) => json("DELETE", apiUrl(segments), { signal });

/** Whether the view that asked has been left. */
export const isAborted = (error) => error?.name === "AbortError";

/** Fetches a picture as a Blob. */
export async function getPicture(segments, signal) {
	const response = await send("GET", apiUrl(segments), { signal });
	return response.blob();
}
