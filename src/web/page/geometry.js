// Rules for polygons and rectangles, the same as the daemon's. Points are [x, y], 0 to 1 of the picture.

/** Minimum width and height of a region. */
export const MIN_RECT = 0.01;

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** Four decimals are finer than a pixel of a 4K picture. */
export const round = (value) => Math.round(value * 10_000) / 10_000;

export const distance = ([ax, ay], [bx, by]) => Math.hypot(ax - bx, ay - by);

function turn(a, b, c) {
	return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
}

/** Whether a point on the line through a and b is between them. */
function isBetween(a, b, point) {
	return Math.min(a[0], b[0]) <= point[0] && point[0] <= Math.max(a[0], b[0])
		&& Math.min(a[1], b[1]) <= point[1] && point[1] <= Math.max(a[1], b[1]);
}

/** Whether the sides a–b and c–d have a point in common. */
function sidesMeet(a, b, c, d) {
	const turnC = turn(a, b, c);
	const turnD = turn(a, b, d);
	const turnA = turn(c, d, a);
	const turnB = turn(c, d, b);
	return (turnC * turnD < 0 && turnA * turnB < 0)
		|| (turnC === 0 && isBetween(a, b, c)) || (turnD === 0 && isBetween(a, b, d))
		|| (turnA === 0 && isBetween(c, d, a)) || (turnB === 0 && isBetween(c, d, b));
}

function crossesItself(points) {
	const sides = points.length;
	return points.some((point, a) => points.some((other, b) => {
		// Adjacent sides share a corner.
		const isNotAdjacent = b > a + 1 && !(a === 0 && b === sides - 1);
		return isNotAdjacent && sidesMeet(point, points[a + 1], other, points[(b + 1) % sides]);
	}));
}

/** What is wrong with a polygon, in words, or null. */
export function polygonProblem(points) {
	if (points.length < 3) return "A polygon needs at least three corners.";
	if (crossesItself(points)) return "The polygon would cross itself.";
	const doubleArea = points.reduce((sum, [x, y], index) => {
		const [nextX, nextY] = points[(index + 1) % points.length];
		return sum + x * nextY - nextX * y;
	}, 0);
	return Math.abs(doubleArea) < 1e-6 ? "The polygon encloses no area." : null;
}

/** Whether the line from the last corner of an open polygon to a point meets one of its sides. */
export function lineWouldCross(points, point) {
	const last = points.length - 1;
	for (let index = 0; index + 1 < last; index += 1) {
		if (sidesMeet(points[index], points[index + 1], points[last], point)) return true;
	}
	return false;
}

/** The corners of a rectangle, from the top left clockwise. */
export function rectCorners([left, top, width, height]) {
	return [[left, top], [left + width, top], [left + width, top + height], [left, top + height]];
}

/** The rectangle of four corners that rectCorners() made. */
export function cornersRect([[left, top], , [right, bottom]]) {
	return [round(left), round(top), round(right - left), round(bottom - top)];
}

/** Moves one corner of a rectangle; the opposite one stays. The sides do not change places. */
export function moveRectCorner(corners, index, [x, y]) {
	const [[left, top], , [right, bottom]] = corners;
	const isLeft = index === 0 || index === 3;
	const isTop = index < 2;
	const newLeft = isLeft ? clamp(x, 0, right - MIN_RECT) : left;
	const newRight = isLeft ? right : clamp(x, left + MIN_RECT, 1);
	const newTop = isTop ? clamp(y, 0, bottom - MIN_RECT) : top;
	const newBottom = isTop ? bottom : clamp(y, top + MIN_RECT, 1);
	return rectCorners([newLeft, newTop, newRight - newLeft, newBottom - newTop]);
}

/** Moves a whole shape as far as the picture allows. */
export function moveAll(points, dx, dy) {
	const xs = points.map(([x]) => x);
	const ys = points.map(([, y]) => y);
	const allowedX = clamp(dx, -Math.min(...xs), 1 - Math.max(...xs));
	const allowedY = clamp(dy, -Math.min(...ys), 1 - Math.max(...ys));
	return points.map(([x, y]) => [round(x + allowedX), round(y + allowedY)]);
}
