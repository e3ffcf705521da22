// Questions and texts in a dialog element.

import { h } from "./dom.js";

/** Asks a question; resolves to whether it was agreed to. */
export function ask({ title, text, yes, no = "Cancel" }) {
	return new Promise((resolve) => {
		const dialog = h("dialog.ask", { "aria-labelledby": "dialog-title" },
			h("h2#dialog-title", title), h("p", text),
			h("form.actions", { method: "dialog" },
				h("button.primary", { value: "yes", "data-answer": "yes" }, yes),
				h("button", { value: "no", "data-answer": "no", autofocus: true }, no)));
		dialog.addEventListener("close", () => {
			dialog.remove();
			resolve(dialog.returnValue === "yes");
		});
		// The view that asks may be replaced meanwhile, for example by the login.
		document.body.append(dialog);
		dialog.showModal();
	});
}

/** Shows a text to be copied, and copies it if the browser allows that. */
export async function offerText(title, text) {
	const words = h("p#copy-status", { role: "status" });
	const area = h("textarea#copy-text", { readonly: true, "aria-label": title, spellcheck: "false" });
	area.value = text;
	const dialog = h("dialog", { "aria-labelledby": "dialog-title" },
		h("h2#dialog-title", title), words, area,
		h("form.actions", { method: "dialog" }, h("button.primary", "Close")));
	dialog.addEventListener("close", () => dialog.remove());
	document.body.append(dialog);
	dialog.showModal();
	area.focus();
	area.select();
	try {
		// Browsers allow this only on https and on localhost.
		await navigator.clipboard.writeText(text);
		words.textContent = "The text was copied to the clipboard.";
	} catch {
		words.textContent = "The text is selected. Copy it with the keyboard or the menu.";
	}
}
