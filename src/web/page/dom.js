// Builds elements. Every text from the server passes through here as a text node, never as markup.

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

/**
 * Creates an HTML element, such as h("p#status.quiet", { hidden: true }, "Text"). Attributes may be left out.
 * Those that start with `on` are listeners; null and false are left out.
 */
export const h = (selector, ...rest) => create((tag) => document.createElement(tag), selector, rest);

/** Creates an SVG element in the same way. */
export const s = (selector, ...rest) => create((tag) => document.createElementNS(SVG_NAMESPACE, tag), selector, rest);

function create(make, selector, rest) {
	const [tag, ...parts] = selector.split(/(?=[#.])/);
	const node = make(tag);
	for (const part of parts) {
		if (part.startsWith("#")) node.id = part.slice(1);
		else node.classList.add(part.slice(1));
	}
	if (rest[0]?.constructor === Object) setAttributes(node, rest.shift());
	node.append(...present(rest));
	return node;
}

/** Sets attributes; null, undefined and false remove them. */
export function setAttributes(node, attributes) {
	for (const [name, value] of Object.entries(attributes)) {
		if (name.startsWith("on")) {
			node.addEventListener(name.slice(2), value);
		} else if (value === null || value === undefined || value === false) {
			node.removeAttribute(name);
		} else {
			const text = value === true ? "" : String(value);
			if (node.getAttribute(name) !== text) node.setAttribute(name, text);
		}
	}
}

function present(children) {
	return children.flat(2).filter((child) => child !== null && child !== undefined && child !== false);
}

export function replace(node, ...children) {
	node.replaceChildren(...present(children));
}

/** Sets the text of an element if it differs, so that live regions are not announced again. */
export function setText(node, text) {
	if (node.textContent !== text) node.textContent = text;
}

/** Shows a text in an element, or hides the element if the text is empty. */
export function setWords(node, text) {
	setText(node, text ?? "");
	node.hidden = !text;
}

/** A button that does not submit. */
export const button = (selector, text, onclick, attributes) =>
	h(`button${selector}`, { type: "button", onclick, ...attributes }, text);

/** A section with a heading that names it. */
export const panel = (id, title, ...children) =>
	h(`section#${id}.panel`, { "aria-labelledby": `${id}-title` }, h(`h2#${id}-title`, title), ...children);

/** An empty line that says a problem once it has a text. */
export const problemLine = (id) => h(`p#${id}.problem`, { role: "alert", hidden: true });

/** Gives a stage the shape of a picture, and a width at which it fits on the screen. */
export function fitStage(stage, [width, height]) {
	stage.style.aspectRatio = `${width} / ${height}`;
	stage.style.maxWidth = `calc(78vh * ${width} / ${height})`;
}

/** A description list from pairs of a term and its value; pairs without a value are left out. */
export function facts(pairs) {
	return h("dl.facts",
		pairs.filter((pair) => pair && pair[1] !== null && pair[1] !== undefined && pair[1] !== "")
			.map(([term, ...values]) => h("div", h("dt", term), h("dd", ...values))));
}
