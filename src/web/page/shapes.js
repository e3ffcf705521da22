// Edits shapes over a picture: by mouse, touch and keyboard. The shapes are SVG elements, so that corners can
// have the focus. Positions are fractions of the picture; the SVG has one unit per CSS pixel.

import { replace, s, setAttributes } from "./dom.js";
import { clamp, distance, lineWouldCross, moveAll, moveRectCorner, polygonProblem, round } from "./geometry.js";
import { percent } from "./text.js";

const STEP = 0.005;
const LARGE_STEP = 0.05;
const CORNER_RADIUS_PX = 7;
const EDGE_RADIUS_PX = 5;
const HIT_RADIUS_PX = 16;
const CLOSE_WITHIN_PX = 14;
const SAME_WITHIN_PX = 5;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * @typedef {{key: string, kind: "mask"|"zone"|"region", title: string, points: number[][]}} Shape
 * The points of a region are its four corners.
 */
export class ShapeEditor {
	/** The layer below the shapes, for what others draw over the picture. */
	underlay = s("g", { "aria-hidden": "true" });
	#svg;
	#scope;
	#callbacks;
	#shapesLayer = s("g");
	#drawingLayer = s("g", { "aria-hidden": "true" });
	#shapes = [];
	#selected = null;
	#isEditable = false;
	#size = [1, 1];
	#drag = null;
	/** { kind, points, cursor } while a shape is drawn. */
	#drawing = null;

	/** Callbacks: onSelect(key), onGesture(), onEdit(key, points), onDelete(key), onDraw(kind, points),
	 *  onDrawing(kind or null), onResize(), say(words). */
	constructor(svg, scope, callbacks) {
		this.#svg = svg;
		this.#scope = scope;
		this.#callbacks = callbacks;
		svg.append(this.underlay, this.#shapesLayer, this.#drawingLayer);
		scope.listen(svg, "pointerdown", (event) => this.#pointerDown(event));
		scope.listen(svg, "pointermove", (event) => this.#pointerMove(event));
		for (const type of ["pointerup", "pointercancel"]) scope.listen(svg, type, () => { this.#drag = null; });
		scope.listen(svg, "click", (event) => this.#click(event));
		scope.listen(svg, "dblclick", () => this.#drawing && this.closeDrawing());
		scope.listen(svg, "keydown", (event) => this.#keyDown(event));
		scope.listen(svg, "focusin", (event) => {
			const key = event.target.dataset?.shape;
			if (key && !this.#drawing && key !== this.#selected && !event.target.dataset.corner && !this.#drag) this.#select(key);
		});
		scope.observe(new ResizeObserver(() => this.#resize())).observe(svg);
		this.#resize();
	}

	get isDrawing() {
		return this.#drawing !== null;
	}

	/** Shows shapes. The selected one stays selected if it is still there. */
	setShapes(shapes, isEditable) {
		this.#shapes = shapes.map((shape) => ({ ...shape }));
		this.#isEditable = isEditable;
		if (!this.#find(this.#selected)) this.#selected = null;
		this.#drag = null;
		this.#render();
	}

	select(key) {
		if (this.#selected === key) return;
		this.#selected = key;
		this.#render();
	}

	focus(key) {
		this.#shapesLayer.querySelector(`polygon[data-shape="${CSS.escape(key)}"]`)?.focus();
	}

	startDrawing(kind) {
		this.#selected = null;
		this.#drawing = { kind, points: [], cursor: null };
		this.#svg.classList.add("drawing");
		this.#svg.tabIndex = 0;
		this.#render();
		this.#svg.focus({ preventScroll: true });
		this.#callbacks.onDrawing(kind);
	}

	closeDrawing() {
		const { kind, points } = this.#drawing;
		const problem = polygonProblem(points);
		if (problem) return this.#callbacks.say(problem);
		this.#endDrawing();
		this.#callbacks.onDraw(kind, points);
	}

	cancelDrawing() {
		if (!this.#drawing) return;
		this.#endDrawing();
		this.#callbacks.say("Nothing was added.");
	}

	#endDrawing() {
		this.#drawing = null;
		this.#svg.classList.remove("drawing");
		this.#svg.removeAttribute("tabindex");
		this.#render();
		this.#callbacks.onDrawing(null);
	}

	// --- Positions ---

	#resize() {
		const { width, height } = this.#svg.getBoundingClientRect();
		if (width === 0) return;
		this.#size = [width, height];
		this.#svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
		this.#place();
		this.#callbacks.onResize?.();
	}

	toPixels([x, y]) {
		return [x * this.#size[0], y * this.#size[1]];
	}

	#pointOf(event) {
		const box = this.#svg.getBoundingClientRect();
		return [clamp((event.clientX - box.left) / box.width, 0, 1), clamp((event.clientY - box.top) / box.height, 0, 1)];
	}

	#find(key) {
		return this.#shapes.find((shape) => shape.key === key) ?? null;
	}

	#select(key) {
		this.select(key);
		this.#callbacks.onSelect(key);
	}

	// --- Elements ---

	/** Builds the elements; what had the focus gets it back. */
	#render() {
		const focused = this.#svg.contains(document.activeElement) ? { ...document.activeElement.dataset } : null;
		const order = [...this.#shapes].sort((a, b) => (a.key === this.#selected) - (b.key === this.#selected));
		replace(this.#shapesLayer, ...order.map((shape) => this.#createShape(shape)));
		this.#place();
		if (focused?.shape) this.#focusHandle(focused);
	}

	#createShape(shape) {
		const { key, kind, title } = shape;
		const isSelected = key === this.#selected;
		const group = s("g",
			s("polygon", {
				class: `shape ${kind}${isSelected ? " selected" : ""}`, "data-shape": key, tabindex: this.#drawing ? null : "0",
				role: "button", "aria-label": title, "aria-pressed": String(isSelected),
			}),
			kind === "mask" ? null : s("text.shape-name", { "data-name-of": key, "aria-hidden": "true" }, title.replace(/^\S+ /, "")));
		if (isSelected && this.#isEditable && !this.#drawing) {
			if (kind !== "region") shape.points.forEach((_, index) => group.append(this.#createHandle(shape, "edge", index)));
			shape.points.forEach((_, index) => group.append(this.#createHandle(shape, "corner", index)));
		}
		return group;
	}

	#createHandle({ key }, type, index) {
		return s("g", { class: `handle ${type}`, "data-shape": key, [`data-${type}`]: index, tabindex: "0", role: "button" },
			s("circle.hit", { r: HIT_RADIUS_PX }),
			s("circle.dot", { r: type === "corner" ? CORNER_RADIUS_PX : EDGE_RADIUS_PX }));
	}

	#place() {
		for (const element of this.#shapesLayer.querySelectorAll("polygon")) {
			const { points } = this.#find(element.dataset.shape);
			element.setAttribute("points", points.map((point) => this.toPixels(point).map((value) => value.toFixed(1)).join(",")).join(" "));
		}
		for (const element of this.#shapesLayer.querySelectorAll("text")) {
			const { points } = this.#find(element.dataset.nameOf);
			const [x, y] = this.toPixels(points.reduce((best, point) => (point[1] < best[1] ? point : best)));
			const width = this.#size[0];
			setAttributes(element, { x: clamp(x, 4, width - 4), y: Math.max(16, y - 8), "text-anchor": x > width * 0.75 ? "end" : "start" });
		}
		for (const element of this.#shapesLayer.querySelectorAll(".handle")) {
			const { points, title } = this.#find(element.dataset.shape);
			const { corner, edge } = element.dataset;
			const index = Number(corner ?? edge);
			const next = (index + 1) % points.length;
			const point = corner === undefined ? middle(points[index], points[next]) : points[index];
			setAttributes(element, {
				transform: `translate(${this.toPixels(point).map((value) => value.toFixed(1)).join(" ")})`,
				"aria-label": corner === undefined ? `Edge from corner ${index + 1} to ${next + 1} of ${title}`
					: `Corner ${index + 1} of ${points.length} of ${title}, ${where(point)}`,
			});
		}
		this.#placeDrawing();
	}

	#placeDrawing() {
		if (!this.#drawing) return replace(this.#drawingLayer);
		const { kind, points, cursor } = this.#drawing;
		const line = cursor ? [...points, cursor] : points;
		const [cursorX, cursorY] = cursor ? this.toPixels(cursor) : [];
		const isBad = cursor && points.length > 1 && lineWouldCross(points, cursor);
		replace(this.#drawingLayer,
			s("polyline", { class: `shape-open ${kind}${isBad ? " bad-line" : ""}`, points: line.map((point) => this.toPixels(point).join(",")).join(" ") }),
			points.map((point, index) => {
				const [x, y] = this.toPixels(point);
				return s("circle", { class: index === 0 ? "dot first" : "dot", cx: x, cy: y, r: index === 0 ? CORNER_RADIUS_PX + 2 : EDGE_RADIUS_PX });
			}),
			cursor ? s("path", { class: "crosshair", d: `M${cursorX - 10} ${cursorY}h20M${cursorX} ${cursorY - 10}v20` }) : null);
	}

	#focusHandle({ shape, corner, edge }) {
		const name = CSS.escape(shape);
		const selector = corner !== undefined ? `.handle[data-shape="${name}"][data-corner="${corner}"]`
			: edge !== undefined ? `.handle[data-shape="${name}"][data-edge="${edge}"]` : `polygon[data-shape="${name}"]`;
		this.#shapesLayer.querySelector(selector)?.focus({ preventScroll: true });
	}

	// --- Changes ---

	/** Changes the points of a shape, unless that would make a polygon invalid. Returns whether it did. */
	#change(shape, points) {
		if (shape.kind !== "region") {
			const problem = polygonProblem(points);
			// A polygon that was invalid before may be mended step by step.
			if (problem && !polygonProblem(shape.points)) {
				this.#callbacks.say(`${problem} It was left as it was.`);
				return false;
			}
		}
		const isSameStructure = points.length === shape.points.length;
		shape.points = points;
		if (isSameStructure) this.#place();
		else this.#render();
		this.#callbacks.onEdit(shape.key, points);
		return true;
	}

	#moveCorner(shape, index, [x, y]) {
		const point = [round(clamp(x, 0, 1)), round(clamp(y, 0, 1))];
		const points = shape.kind === "region" ? moveRectCorner(shape.points, index, point)
			: shape.points.map((old, at) => (at === index ? point : old));
		return this.#change(shape, points);
	}

	#addCorner(shape, edge) {
		const point = middle(shape.points[edge], shape.points[(edge + 1) % shape.points.length]).map(round);
		this.#callbacks.onGesture();
		if (!this.#change(shape, shape.points.toSpliced(edge + 1, 0, point))) return false;
		this.#focusHandle({ shape: shape.key, corner: edge + 1 });
		return true;
	}

	#removeCorner(shape, index) {
		if (shape.kind === "region") return this.#callbacks.say("A region keeps its four corners.");
		if (shape.points.length <= 3) return this.#callbacks.say("A polygon needs at least three corners. Delete the whole shape instead.");
		this.#callbacks.onGesture();
		if (!this.#change(shape, shape.points.toSpliced(index, 1))) return;
		const left = shape.points.length;
		this.#focusHandle({ shape: shape.key, corner: Math.min(index, left - 1) });
		this.#callbacks.say(`Corner ${index + 1} was removed; ${left} are left.`);
	}

	#addDrawnPoint(point) {
		const { points } = this.#drawing;
		const pixels = this.toPixels(point);
		if (points.length > 0 && distance(this.toPixels(points.at(-1)), pixels) < SAME_WITHIN_PX) return;
		if (points.length > 2 && distance(this.toPixels(points[0]), pixels) < CLOSE_WITHIN_PX) return this.closeDrawing();
		const rounded = point.map(round);
		if (points.length > 1 && lineWouldCross(points, rounded)) {
			return this.#callbacks.say("The polygon would cross itself here. Choose another place for this corner.");
		}
		points.push(rounded);
		this.#placeDrawing();
		this.#callbacks.say(`Corner ${points.length} is set at ${where(rounded)}.`);
	}

	// --- Pointer ---

	#pointerDown(event) {
		if (event.button !== 0 || !event.isPrimary || this.#drawing) return;
		const handle = event.target.closest?.("[data-shape]");
		if (!handle) {
			if (this.#selected) this.#select(null);
			return;
		}
		event.preventDefault();
		const shape = this.#find(handle.dataset.shape);
		const start = this.#pointOf(event);
		let { corner, edge } = handle.dataset;
		if (shape.key !== this.#selected) this.#select(shape.key);
		this.#focusHandle({ shape: shape.key, corner, edge });
		if (!this.#isEditable) return;
		if (edge !== undefined) {
			if (!this.#addCorner(shape, Number(edge))) return;
			corner = Number(edge) + 1;
		}
		const grabbed = corner === undefined ? null : shape.points[Number(corner)];
		this.#drag = {
			shape, start, corner: corner === undefined ? null : Number(corner), points: shape.points,
			offset: grabbed ? [grabbed[0] - start[0], grabbed[1] - start[1]] : [0, 0], hasMoved: edge !== undefined,
		};
		this.#svg.setPointerCapture(event.pointerId);
	}

	#pointerMove(event) {
		if (this.#drawing) {
			this.#drawing.cursor = this.#pointOf(event);
			return this.#placeDrawing();
		}
		const drag = this.#drag;
		if (!drag) return;
		const [x, y] = this.#pointOf(event);
		if (!drag.hasMoved) {
			// A finger that only taps moves a little.
			if (distance(this.toPixels([x, y]), this.toPixels(drag.start)) < 3) return;
			drag.hasMoved = true;
			this.#callbacks.onGesture();
		}
		if (drag.corner === null) this.#change(drag.shape, moveAll(drag.points, x - drag.start[0], y - drag.start[1]));
		else this.#moveCorner(drag.shape, drag.corner, [x + drag.offset[0], y + drag.offset[1]]);
	}

	#click(event) {
		// A keyboard or a screen reader can click without a position.
		if (this.#drawing && (event.clientX || event.clientY)) this.#addDrawnPoint(this.#pointOf(event));
	}

	// --- Keyboard ---

	#keyDown(event) {
		if (event.ctrlKey || event.metaKey || event.altKey) return;
		const isHandled = this.#drawing ? this.#drawingKey(event) : this.#shapeKey(event);
		if (!isHandled) return;
		event.preventDefault();
		event.stopPropagation();
	}

	#drawingKey(event) {
		const arrow = ARROWS[event.key];
		const drawing = this.#drawing;
		if (arrow) {
			const step = event.shiftKey ? LARGE_STEP : STEP;
			const [x, y] = drawing.cursor ?? [0.5, 0.5];
			drawing.cursor = [round(clamp(x + arrow[0] * step, 0, 1)), round(clamp(y + arrow[1] * step, 0, 1))];
			this.#placeDrawing();
			this.#callbacks.say(`Cross at ${where(drawing.cursor)}.`);
		} else if (event.key === " ") {
			drawing.cursor ??= [0.5, 0.5];
			this.#addDrawnPoint(drawing.cursor);
		} else if (event.key === "Enter") {
			this.closeDrawing();
		} else if (event.key === "Escape") {
			this.cancelDrawing();
		} else if (event.key === "Backspace" || event.key === "Delete") {
			drawing.points.pop();
			this.#placeDrawing();
		} else {
			return false;
		}
		return true;
	}

	#shapeKey(event) {
		const { shape: key, corner, edge } = event.target.dataset ?? {};
		const shape = this.#find(key);
		if (!shape) return false;
		const isConfirm = event.key === "Enter" || event.key === " ";
		if (event.key === "Escape") {
			this.#focusHandle({ shape: key });
			this.#select(null);
		} else if (corner === undefined && edge === undefined && isConfirm) {
			this.#select(key);
		} else if (!this.#isEditable) {
			return false;
		} else if (edge !== undefined && isConfirm) {
			if (this.#addCorner(shape, Number(edge))) this.#callbacks.say(`A corner was added; there are ${shape.points.length}.`);
		} else if (corner !== undefined && (event.key === "Delete" || event.key === "Backspace")) {
			this.#removeCorner(shape, Number(corner));
		} else if (corner === undefined && edge === undefined && event.key === "Delete") {
			this.#callbacks.onDelete(key);
		} else if (ARROWS[event.key] && edge === undefined) {
			const [dx, dy] = ARROWS[event.key].map((part) => part * (event.shiftKey ? LARGE_STEP : STEP));
			this.#callbacks.onGesture();
			if (corner === undefined) {
				this.#change(shape, moveAll(shape.points, dx, dy));
			} else {
				const [x, y] = shape.points[Number(corner)];
				if (this.#moveCorner(shape, Number(corner), [x + dx, y + dy])) {
					this.#callbacks.say(`Corner ${Number(corner) + 1} is at ${where(shape.points[Number(corner)])}.`);
				}
			}
		} else {
			return false;
		}
		return true;
	}
}

const middle = ([ax, ay], [bx, by]) => [(ax + bx) / 2, (ay + by) / 2];

const where = ([x, y]) => `${percent(x)} from the left and ${percent(y)} from the top`;
