// The node: its load, connections, stores, stages and versions, the last hour, and the last warnings.

import { get, isAborted } from "./api.js";
import { changes } from "./changes.js";
import { facts, h, panel, replace, setText, setWords } from "./dom.js";
import { createPlot } from "./plot.js";
import { bytesText, count, mark, number } from "./text.js";
import { durationText, sinceElement, timeElement } from "./time.js";

const NODE_EVERY_MS = 5_000;
const LOG_EVERY_MS = 20_000;
const HISTORY_EVERY_MS = 60_000;
const STAGE_LATE_MS = 5_000;
const MAX_LOG_ROWS = 200;

export function openNode(main, { scope, session }) {
	const status = h("p#node-status", { role: "status" }, "Fetching the state of the node.");
	const problem = h("p#node-problem.problem", { role: "status", hidden: true });
	const overview = h("div#node-overview.panels");
	const plots = h("div#node-plots.plots");
	const log = h("ol#node-log.log");
	const logWords = h("p#node-log-status", "Fetching the log.");
	main.append(h("h1", `Node ${session.node}`), status, problem, overview,
		panel("plots", "The last hour", plots),
		panel("log", "Last warnings", logWords, log));

	/** Calls a request at an interval while the page is visible, one at a time. */
	function poll(segments, everyMs, show) {
		let isRunning = false;
		async function run() {
			if (isRunning || document.hidden || scope.closed) return;
			isRunning = true;
			try {
				show(await get(segments, {}, scope.signal));
				if (segments.length === 1) setWords(problem, "");
			} catch (error) {
				if (!isAborted(error)) setWords(problem, `The state of the node could not be fetched: ${error.message} Trying again.`);
			}
			isRunning = false;
		}
		scope.every(everyMs, run);
		scope.listen(document, "visibilitychange", run);
		scope.listen(changes, "refetch", run);
		run();
	}

	function showNode(node) {
		status.hidden = true;
		const { outbox, pictures, disk, broker } = node;
		const sections = [
			["load", "Load", facts([
				["Running for", durationText(node.uptime_s), ", since ", timeElement(node.started_at)],
				["Memory", `${node.memory_mib} MiB`],
				["CPU", node.cpu_percent === null ? "not known yet" : `${number(node.cpu_percent)} %`],
				["Temperature", node.temperature_c === null ? "not known" : `${number(node.temperature_c)} °C`],
				["Clock", node.clock_synchronised === null ? "not known" : node.clock_synchronised
					? [mark("good"), "synchronised"] : [mark("bad"), "not synchronised: times may be wrong"]],
			])],
			["broker", "Broker and outbox", facts([
				["Broker", broker.connected ? [mark("good"), "connected"] : [mark("bad"), "not connected"]],
				["Connections", `${broker.connections} since the start`],
				["Waiting", `${count(outbox.waiting, "message")}${outbox.waiting > 0 ? `, the oldest for ${durationText(outbox.oldest_waiting_s)}` : ""}`],
				["Lost", outbox.lost > 0 ? [mark("bad"), count(outbox.lost, "message")] : "none"],
				["Accepted", count(outbox.accepted, "message")],
				["Dropped", node.messages_dropped > 0 ? count(node.messages_dropped, "transient message") : "none"],
				["Outbox", outbox.in_memory ? [mark("bad"), "in memory only: lost when the daemon stops"] : bytesText(outbox.file_bytes)],
			])],
			["disk", "Disk", facts([
				["Pictures", pictures.directory === null ? "not stored" : `${bytesText(pictures.file_bytes)} of ${bytesText(pictures.max_bytes)}`],
				["Directory", pictures.directory],
				["Free", disk ? `${bytesText(disk.free_bytes)} of ${bytesText(disk.total_bytes)}` : "not known"],
				["Written", node.disk_bytes_per_day === null ? "not known yet" : `${bytesText(node.disk_bytes_per_day)} a day`],
			])],
			["versions", "Versions", facts(Object.entries(node.versions).map(([name, version]) => [name, version]))],
			["stages", "Stages", h("ul.stages", node.stages.map(({ name, age_ms: ageMs, hangs }) => {
				const isLate = ageMs > STAGE_LATE_MS;
				return h("li", { "data-stage": name }, mark(hangs ? "bad" : isLate ? "idle" : "good"), name,
					h("span", { class: hangs ? "problem" : "quiet" }, hangs ? ` hangs: no sign for ${durationText(ageMs / 1000)}`
						: isLate ? ` last sign ${durationText(ageMs / 1000)} ago` : " works"));
			}))],
		];
		for (const [key, title, content] of sections) {
			let section = overview.querySelector(`#node-${key}`);
			if (!section) {
				section = panel(`node-${key}`, title, h("div"));
				overview.append(section);
			}
			replace(section.lastElementChild, content);
		}
	}

	function showHistory({ points }) {
		if (points.length === 0) return replace(plots, h("p", "Nothing has been recorded yet. The first values follow within a minute."));
		replace(plots,
			createPlot({ title: "Latency", unit: "ms", points, series: ["p50", "p90", "p99"].map((name) =>
				({ name, value: (point) => point.latency_ms?.[name] })) }),
			createPlot({ title: "Analysed frames", unit: "frames/s", digits: 1, points, series: [{ name: "", value: (point) => point.analysed_fps }] }),
			createPlot({ title: "CPU", unit: "%", points, series: [{ name: "", value: (point) => point.cpu_percent }] }),
			createPlot({ title: "Memory", unit: "MiB", points, series: [{ name: "", value: (point) => point.memory_mib }] }),
			createPlot({ title: "Messages waiting", unit: "", points, series: [{ name: "", value: (point) => point.waiting }] }));
	}

	function showLog({ entries }) {
		setText(logWords, entries.length === 0 ? "There were no warnings." : `${count(entries.length, "entry", "entries")}, newest first.`);
		replace(log, ...entries.slice(0, MAX_LOG_ROWS).map(({ at, level, message, fields }) => h("li", { "data-level": level },
			h("p", mark(level === "error" ? "bad" : "idle"), h("strong", level === "error" ? "Error" : "Warning"), " ", timeElement(at),
				h("span.quiet", " (", sinceElement(at), " ago)")),
			h("p", message),
			h("p.quiet", Object.entries(fields ?? {}).map(([key, value]) =>
				`${key}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ")))));
	}

	poll(["node"], NODE_EVERY_MS, showNode);
	poll(["node", "history"], HISTORY_EVERY_MS, showHistory);
	poll(["node", "log"], LOG_EVERY_MS, showLog);
	return { title: "Node" };
}
