// Draws over a live picture: objects with boxes, labels and tracks, zones, masks, regions and motion.

import { percent } from "./text.js";

const FONT_PX = 13;
const LINE_PX = 18;
// A narrow picture has no room for the best classes; the table below it lists them.
const WIDE_PX = 600;
const MAX_TRACK_POINTS = 60;
const FORGET_TRACK_AFTER_FRAMES = 30;
// Bright enough over a picture; a dark outline separates them from a bright one.
const COLOURS = ["#ffb454", "#7fd1ff", "#9be37f", "#ff9db0", "#d3b3ff", "#ffe66b", "#6fe3d0"];
const UNREPORTED = "#d8dce0";

function colourOf(label) {
	if (label === "unknown") return UNREPORTED;
	let hash = 0;
	for (let index = 0; index < label.length; index += 1) hash = (hash * 31 + label.charCodeAt(index)) >>> 0;
	return COLOURS[hash % COLOURS.length];
}

/** The last positions of each object. Bounded in length, and an object that is gone is forgotten. */
export class Tracks {
	#byId = new Map();
	#frame = 0;

	add(objects) {
		this.#frame += 1;
		for (const { id, box } of objects) {
			const track = this.#byId.get(id) ?? { points: [] };
			track.lastFrame = this.#frame;
			track.points.push([box[0] + box[2] / 2, box[1] + box[3]]);
			if (track.points.length > MAX_TRACK_POINTS) track.points.shift();
			this.#byId.set(id, track);
		}
		for (const [id, track] of this.#byId) {
			if (this.#frame - track.lastFrame > FORGET_TRACK_AFTER_FRAMES) this.#byId.delete(id);
		}
	}

	pointsOf(id) {
		return this.#byId.get(id)?.points ?? [];
	}

	clear() {
		this.#byId.clear();
	}
}

/** Draws the overlay of a frame. */
export class Overlay {
	#cells = null;

	/** `area`: width and height of the drawn picture in CSS pixels, to which the context is scaled. */
	draw(context, area, { frame, camera, tracks, show }) {
		const [frameWidth, frameHeight] = frame.size;
		const scaleX = area.width / frameWidth;
		const scaleY = area.height / frameHeight;
		context.font = `600 ${FONT_PX}px system-ui, sans-serif`;
		context.textBaseline = "middle";
		context.lineJoin = "round";
		if (show.motion && frame.motion) this.#drawMotion(context, area, frame.motion);
		if (camera && show.masks) camera.masks.forEach((polygon) => drawMask(context, area, polygon));
		if (camera && show.zones) camera.zones.forEach((zone) => drawZone(context, area, zone));
		if (camera && show.regions) camera.regions.forEach((region) => drawRegion(context, area, region, camera));
		const objects = frame.objects.filter((object) => object.reported || show.details);
		for (const object of objects) drawTrack(context, tracks.pointsOf(object.id), scaleX, scaleY, object);
		for (const object of objects) drawObject(context, area, object, scaleX, scaleY, show.details);
	}

	/** The cells of the foreground as a translucent layer. */
	#drawMotion(context, area, { columns, rows, runs }) {
		if (!(columns > 0 && rows > 0 && columns * rows <= 1 << 20)) return;
		this.#cells ??= document.createElement("canvas");
		const canvas = this.#cells;
		if (canvas.width !== columns || canvas.height !== rows) Object.assign(canvas, { width: columns, height: rows });
		const cells = canvas.getContext("2d");
		const image = cells.createImageData(columns, rows);
		const pixels = new Uint32Array(image.data.buffer);
		// Bytes in the order alpha, blue, green, red: little-endian, as in every browser of today.
		for (let at = 0; at + 1 < runs.length; at += 2) pixels.fill(0x90ff50ff, runs[at], runs[at] + runs[at + 1]);
		cells.putImageData(image, 0, 0);
		context.imageSmoothingEnabled = false;
		context.drawImage(canvas, 0, 0, area.width, area.height);
		context.imageSmoothingEnabled = true;
	}
}

function tracePolygon(context, area, polygon) {
	context.beginPath();
	polygon.forEach(([x, y], index) => context[index ? "lineTo" : "moveTo"](x * area.width, y * area.height));
	context.closePath();
}

/** Strokes the path with a dark rim, so that it is visible on every picture. */
function outline(context, colour, width, dash = []) {
	context.setLineDash(dash);
	context.lineWidth = width + 2;
	context.strokeStyle = "rgb(0 0 0 / 0.55)";
	context.stroke();
	context.lineWidth = width;
	context.strokeStyle = colour;
	context.stroke();
	context.setLineDash([]);
}

function drawMask(context, area, polygon) {
	tracePolygon(context, area, polygon);
	context.fillStyle = "rgb(0 0 0 / 0.55)";
	context.fill();
	outline(context, "#ffffff", 1, [2, 4]);
}

function drawZone(context, area, { name, polygon }) {
	tracePolygon(context, area, polygon);
	context.fillStyle = "rgb(127 209 255 / 0.12)";
	context.fill();
	outline(context, "#7fd1ff", 1.5);
	const top = polygon.reduce((best, corner) => (corner[1] < best[1] ? corner : best));
	drawLabel(context, area, [name], top[0] * area.width, top[1] * area.height, "#7fd1ff");
}

function drawRegion(context, area, { name, rect }, camera) {
	const [left, top, width, height] = rect;
	context.beginPath();
	context.rect(left * area.width, top * area.height, width * area.width, height * area.height);
	outline(context, "#d3b3ff", 1.5, [8, 4]);
	const state = camera.region_states?.[name];
	drawLabel(context, area, [state ? `${name}: ${state.state}` : name], left * area.width, top * area.height, "#d3b3ff");
}

/** The way of an object as a line that fades towards the past. */
function drawTrack(context, points, scaleX, scaleY, object) {
	context.strokeStyle = colourOf(object.label);
	context.lineWidth = 2;
	for (let index = 1; index < points.length; index += 1) {
		context.globalAlpha = (index / points.length) * 0.9;
		context.beginPath();
		context.moveTo(points[index - 1][0] * scaleX, points[index - 1][1] * scaleY);
		context.lineTo(points[index][0] * scaleX, points[index][1] * scaleY);
		context.stroke();
	}
	context.globalAlpha = 1;
}

function drawObject(context, area, object, scaleX, scaleY, withDetails) {
	const [left, top, width, height] = object.box;
	const colour = object.reported ? colourOf(object.label) : UNREPORTED;
	context.beginPath();
	context.rect(left * scaleX, top * scaleY, width * scaleX, height * scaleY);
	// An object that is hidden, or not reported, has a broken outline.
	outline(context, colour, 2, !object.reported || object.visible === false ? [5, 4] : []);
	const lines = [`${object.sub_label ?? object.label} ${percent(object.score)}`];
	if (withDetails) {
		for (const { label, score } of (object.top ?? []).slice(0, area.width < WIDE_PX ? 0 : 3)) lines.push(`${label} ${percent(score)}`);
		if (!object.reported && object.why) lines.push(object.why);
	}
	drawLabel(context, area, lines, left * scaleX, top * scaleY, colour);
}

/** Lines of text above a point, kept within the picture. */
function drawLabel(context, area, lines, left, bottom, colour) {
	const width = Math.max(...lines.map((line) => context.measureText(line).width)) + 10;
	const height = lines.length * LINE_PX;
	const x = Math.max(0, Math.min(left, area.width - width));
	const y = Math.max(0, Math.min(bottom - height, area.height - height));
	context.fillStyle = "rgb(12 14 16 / 0.82)";
	context.fillRect(x, y, width, height);
	context.fillStyle = colour;
	lines.forEach((line, index) => context.fillText(line, x + 5, y + LINE_PX * (index + 0.5) + 1));
}
