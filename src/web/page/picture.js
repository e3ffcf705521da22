// Pictures of events. One that is missing is said in words.

import { apiUrl, send } from "./api.js";
import { h, replace } from "./dom.js";

const REMOVED = "The picture was removed to make room for newer ones.";
const NONE = "No picture was stored.";

/** Shows a picture of an event in a box, or says why there is none. */
export function showPicture(box, event, kind, { alt = "", lazy = false } = {}) {
	const key = JSON.stringify([event.id, kind, event.picture, event.best?.at]);
	if (box.dataset.picture === key) return;
	box.dataset.picture = key;
	if (event.picture !== "stored") return say(box, event.picture === "removed" ? REMOVED : NONE);
	const url = apiUrl(["events", event.id, "picture"], { kind, t: event.best?.at });
	const image = h("img", { alt, loading: lazy ? "lazy" : null });
	image.addEventListener("error", async () => {
		const words = await reason(url);
		if (box.dataset.picture === key) say(box, words);
	});
	image.src = url;
	replace(box, image);
}

function say(box, words) {
	replace(box, h("p.words", words));
}

/** Asks the daemon why a picture could not be loaded. */
async function reason(url) {
	try {
		(await send("GET", url)).body.cancel();
		return "The picture cannot be shown.";
	} catch (error) {
		return error.status === 410 ? REMOVED : error.status === 404 ? NONE : "The picture could not be loaded.";
	}
}
