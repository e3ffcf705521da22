// The login form. It is shown in place of a view, so that the view's address stays and is opened afterwards.

import { isAborted, post } from "./api.js";
import { h, problemLine, setWords } from "./dom.js";
import { durationText } from "./time.js";

/** Shows the form; `whenIn` gets the new session. */
export function openLogin(main, { scope, session, reason, whenIn }) {
	const password = h("input#password", {
		type: "password", autocomplete: "current-password", required: true, "aria-describedby": "login-problem",
	});
	const button = h("button#login-submit.primary", { type: "submit" }, "Log in");
	const problem = problemLine("login-problem");

	async function submit(event) {
		event.preventDefault();
		button.disabled = true;
		setWords(problem, "");
		let waitMs = 0;
		try {
			return whenIn(await post(["session"], { password: password.value }, scope.signal));
		} catch (error) {
			if (isAborted(error)) return;
			if (error.status === 429) {
				waitMs = (error.retryAfterS ?? 10) * 1000;
				setWords(problem, `Too many tries. Try again in ${durationText(Math.ceil(waitMs / 1000))}.`);
			} else {
				setWords(problem, error.status === 401 ? "The password is wrong." : error.message);
			}
			password.select();
		}
		if (waitMs === 0) {
			button.disabled = false;
			password.focus();
			return;
		}
		scope.after(waitMs, () => {
			button.disabled = false;
			setWords(problem, "You can try again now.");
		});
	}

	main.append(
		h("form#login.login.panel", { onsubmit: submit },
			h("h1", `Log in to ${session?.node ?? "camfire"}`),
			reason ? h("p#login-reason", reason) : null,
			// Password managers store a password under a user name.
			h("input", { autocomplete: "username", value: "camfire", hidden: true }),
			h("label", { for: "password" }, "Password"),
			password, problem, button));
	password.focus();
	return { title: "Log in", keepFocus: true };
}
