// Starts the page: session, header, and the router that opens the view of the address.

import { get, isAborted, onLoggedOut, remove } from "./api.js";
import { openCameras } from "./cameras.js";
import { changes } from "./changes.js";
import { button, h, replace, setText, setWords } from "./dom.js";
import { openLogin } from "./login.js";
import { Scope } from "./scope.js";
import { store } from "./store.js";
import { refreshAges, timeElement } from "./time.js";

const byId = (id) => document.getElementById(id);
const main = byId("main");

let session = null;
let firstVersion = null;
/** The open view: { scope, title, keepFocus, mayLeave }. */
let view = null;
let shownHash = null;
let isFirstView = true;

/** The views: path, entry of the navigation, and how the view is loaded. */
const ROUTES = [
	["cameras/:name/setup", "cameras", async () => (await import("./setup.js")).openSetup],
	["cameras/:name", "cameras", async () => (await import("./live.js")).openLive],
	["events/:id", "events", async () => (await import("./event.js")).openEvent],
	["events", "events", async () => (await import("./events.js")).openEvents],
	["node", "node", async () => (await import("./node.js")).openNode],
	["cameras", "cameras", async () => openCameras],
	["", "cameras", async () => openCameras],
];

/** Finds the route of an address like "#/cameras/yard?x=1"; null if there is none. */
function findRoute(hash) {
	const [path, query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
	const segments = path.split("/").filter(Boolean);
	for (const [pattern, nav, load] of ROUTES) {
		const parts = pattern.split("/").filter(Boolean);
		if (parts.length !== segments.length) continue;
		if (!parts.every((part, index) => part.startsWith(":") || part === segments[index])) continue;
		try {
			const parameters = Object.fromEntries(parts.map((part, index) => [part.slice(1), decodeURIComponent(segments[index])]));
			return { nav, load, parameters, query: new URLSearchParams(query) };
		} catch {
			// The address is not encoded properly.
			return null;
		}
	}
	return null;
}

function closeView() {
	for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
	view?.scope.close();
	view = null;
}

/** Opens a view in place of the current one. `open` gets the main element and the view's context. */
function show(open, context, nav) {
	closeView();
	const scope = new Scope();
	view = { scope };
	replace(main);
	const opened = open(main, { ...context, scope, session, setTitle });
	if (view?.scope !== scope) return;
	Object.assign(view, opened);
	setTitle(view.title);
	for (const link of document.querySelectorAll("[data-nav]")) {
		if (link.dataset.nav === nav) link.setAttribute("aria-current", "page");
		else link.removeAttribute("aria-current");
	}
	main.dataset.view = nav ?? "";
	scrollTo(0, 0);
	if (!view.keepFocus && !isFirstView) focusHeading();
	isFirstView = false;
}

function setTitle(title) {
	const node = session?.node ?? "camfire";
	document.title = title ? `${title} – ${node}` : node;
}

function focusHeading() {
	const heading = main.querySelector("h1");
	if (!heading) return main.focus();
	heading.tabIndex = -1;
	heading.focus({ preventScroll: true });
}

/** Opens the view of the address, after the current view has agreed to be left. */
async function navigate() {
	const hash = location.hash;
	if (view?.mayLeave && hash !== shownHash) {
		const leaving = view;
		if (leaving.asking) return history.replaceState(null, "", shownHash);
		// The address is put back until the question is answered.
		history.pushState(null, "", shownHash);
		leaving.asking = true;
		const mayLeave = await leaving.mayLeave();
		leaving.asking = false;
		if (view !== leaving || !mayLeave) return;
		history.replaceState(null, "", hash || "#/");
	}
	await openHash();
}

async function openHash() {
	const hash = location.hash;
	shownHash = hash;
	if (!session?.role) return showLogin();
	const route = findRoute(hash);
	if (!route) return show(openUnknown, {});
	let open;
	try {
		open = await route.load();
	} catch {
		open = openUnloaded;
	}
	// Another view may have been asked for while this one was loaded.
	if (location.hash === hash && session?.role) show(open, route, route.nav);
}

function openUnknown(target) {
	target.append(
		h("h1", "There is no such view"),
		h("p#unknown-route", "This address does not belong to a view of this page."),
		h("p", h("a", { href: "#/" }, "Back to the cameras")));
	return { title: "No such view" };
}

const reloadButton = () => button("", "Reload the page", () => location.reload());

function openUnloaded(target) {
	target.append(
		h("h1", "The view could not be loaded"),
		h("p", "The daemon did not send a file of this page. It may have been stopped or updated."),
		h("p", reloadButton()));
	return { title: "Not loaded" };
}

function showLogin(reason) {
	show(openLogin, { reason, whenIn: (newSession) => enter(newSession) });
}

/** Continues with a session that has a role. */
function enter(newSession) {
	setSession(newSession);
	store.load();
	changes.open(refreshSession);
	openHash();
}

function setSession(newSession) {
	session = newSession;
	firstVersion ??= session.version;
	setText(byId("node-name"), session.node);
	byId("nav").hidden = !session.role;
	byId("connection").hidden = !session.role;
	byId("logout").hidden = !session.role || !session.password_required;
	setWords(byId("role"), session.role === "viewer" ? "Viewer" : "");
	if (session.version !== firstVersion) {
		replace(byId("notice"), `camfire was updated to version ${session.version}. `, reloadButton());
		byId("notice").hidden = false;
	}
}

/** Called when the daemon answers that nobody is logged in. */
function leave(reason = "The session has ended. Log in to go on.") {
	if (!session?.role) return;
	setSession({ ...session, role: null });
	changes.close();
	store.clear();
	showLogin(reason);
}

/** Asks who is logged in, for example after the daemon was started anew. */
async function refreshSession() {
	try {
		const fresh = await get(["session"]);
		if (!session?.role) return;
		if (!fresh.role) return leave();
		const roleChanged = fresh.role !== session.role;
		setSession(fresh);
		if (roleChanged) openHash();
	} catch {
		// The connection state already says that the daemon does not answer.
	}
}

async function logOut() {
	if (view?.mayLeave && !(await view.mayLeave())) return;
	try {
		await remove(["session"]);
		leave("You have logged out.");
	} catch (error) {
		if (!isAborted(error) && error.status !== 401) setWords(byId("notice"), `Logging out failed: ${error.message}`);
	}
}

function showConnection() {
	const element = byId("connection");
	const { state, sinceMs } = changes;
	element.dataset.connection = state;
	if (state === "reconnecting") {
		replace(element, "reconnecting since ", timeElement(new Date(sinceMs).toISOString()));
	} else {
		setText(element, state === "live" ? "live" : state === "connecting" ? "connecting" : "not connected");
	}
}

async function start() {
	onLoggedOut(() => leave());
	changes.addEventListener("state", showConnection);
	changes.addEventListener("refetch", refreshSession);
	addEventListener("hashchange", navigate);
	byId("logout").addEventListener("click", logOut);
	byId("skip").addEventListener("click", (event) => {
		event.preventDefault();
		focusHeading();
	});
	refreshAges();
	for (let delayMs = 1000; ; delayMs = Math.min(delayMs * 2, 10_000)) {
		try {
			const fresh = await get(["session"]);
			if (fresh.role) return enter(fresh);
			setSession(fresh);
			return showLogin();
		} catch (error) {
			replace(main, h("h1", "camfire does not answer"), h("p", { role: "status" }, `${error.message} Trying again.`));
			await new Promise((resolve) => setTimeout(resolve, delayMs));
		}
	}
}

start();
