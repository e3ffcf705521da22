//! The documents of users against the program: commands parse, configurations are valid, links lead
//! somewhere, quoted messages and pipeline options exist, and the configuration reference is current.

use crate::support::{camfire, camfire_output, root, stderr, stdout};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// A page, with the path that it has in the repository.
struct Page {
    path: String,
    text: String,
}

fn read(path: &str) -> Page {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    Page { path: path.to_string(), text }
}

/// README.md, CONTRIBUTING.md and everything in docs/.
fn pages() -> Vec<Page> {
    let mut paths: Vec<String> = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()))
        .filter(|path| path.ends_with(".md"))
        .collect();
    paths.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md", "models/README.md"].map(String::from));
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

impl Page {
    /// The blocks of code in this language, each with the number of its first line.
    fn blocks(&self, language: &str) -> Vec<(usize, String)> {
        let mut blocks = Vec::new();
        let mut open: Option<(usize, &str, Vec<&str>)> = None;
        for (index, line) in self.text.lines().enumerate() {
            match (&mut open, line.trim_start().strip_prefix("```")) {
                (None, Some(language)) => open = Some((index + 2, language.trim(), Vec::new())),
                (Some((first, found, lines)), Some(_)) => {
                    if *found == language {
                        blocks.push((*first, lines.join("\n")));
                    }
                    open = None;
                }
                (Some((_, _, lines)), None) => lines.push(line),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block of code is not closed", self.path);
        blocks
    }

    /// The text without its blocks of code.
    fn prose(&self) -> String {
        self.text.split("```").step_by(2).collect()
    }

    /// The anchors of the headings, as GitHub makes them.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self.prose();
        let headings = headings.lines().filter_map(|line| {
            let heading = line.trim_start_matches('#');
            (heading.len() < line.len()).then(|| heading.trim().to_string())
        });
        let anchor = |heading: String| -> String {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || "_- ".contains(*c));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        };
        headings.map(anchor).collect()
    }
}

/// The words of the camfire commands in a block of shell commands.
fn camfire_commands(block: &str) -> Vec<Vec<String>> {
    let joined = block.replace("\\\n", " ");
    let mut commands = Vec::new();
    for line in joined.lines() {
        let line = line.split_once(" #").map_or(line, |(command, _)| command);
        for part in line.split(['|', ';']).flat_map(|part| part.split("&&")) {
            let words = words(part);
            let mut words = words.into_iter().skip_while(|word| word == "sudo" || word.contains('='));
            if words.next().is_some_and(|program| program == "camfire" || program.ends_with("/camfire")) {
                commands.push(words.take_while(|word| !word.starts_with(['>', '<', '&'])).collect());
            }
        }
    }
    commands
}

/// Splits a command into words, as a shell does with quotes.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in command.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Why a command cannot be parsed. `--help` ends the parsing before anything is done.
fn parse_error(words: &[String]) -> Option<String> {
    let output = camfire().args(words).arg("--help").output().unwrap();
    (!output.status.success()).then(|| stderr(&output))
}

#[test]
fn documented_commands_parse() {
    let mut commands = BTreeMap::new();
    for page in pages() {
        for (line, block) in page.blocks("sh") {
            for words in camfire_commands(&block) {
                commands.entry(words).or_insert(format!("{}:{line}", page.path));
            }
        }
    }
    assert!(commands.len() > 5, "{commands:#?}");
    let broken: Vec<String> = (commands.iter())
        .filter_map(|(words, place)| Some(format!("{place}: {words:?}: {}", parse_error(words)?)))
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");

    let broken = camfire_commands("sudo camfire chek\nA=1 camfire watch --cam \\\n  yard | jq . # camfire x");
    assert_eq!(broken, [vec!["chek"], vec!["watch", "--cam", "yard"]]);
    assert!(broken.iter().all(|words| parse_error(words).is_some()));
}

/// A documented configuration, completed to be one that can be checked here: files and devices that it
/// names do not exist on this machine, and cameras may be shown in part.
fn completed(toml: &str, folder: &Path) -> String {
    let mut table: toml::Table = toml.parse().unwrap_or_else(|error| panic!("{error} in\n{toml}"));
    let here = |name: &str, content: &[u8]| {
        let file = folder.join(name);
        fs::write(&file, content).unwrap();
        toml::Value::String(file.display().to_string())
    };
    let replace_password = |section: &mut toml::Table| {
        if section.contains_key("password_file") {
            section.insert("password_file".into(), here("password", b"hunter2\n"));
        }
    };
    if let Some(mqtt) = table.get_mut("mqtt").and_then(toml::Value::as_table_mut) {
        replace_password(mqtt);
    }
    for (_, camera) in table.get_mut("cameras").and_then(toml::Value::as_table_mut).into_iter().flatten() {
        let camera = camera.as_table_mut().unwrap();
        replace_password(camera);
        let source = camera.entry("source").or_insert("test://".into()).as_str().unwrap().to_string();
        // Elements and devices of other boards are not here; the options still are those of the template.
        if let Some((scheme, _)) =
            source.split_once("://").filter(|(scheme, _)| ["v4l2", "file"].contains(scheme))
        {
            let file = here("empty", b"");
            camera.insert("source".into(), format!("{scheme}://{}", file.as_str().unwrap()).into());
        }
    }
    table.to_string()
}

/// The problems of a configuration that `camfire check` reports, without those of other machines.
fn problems(toml: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("camfire.toml");
    fs::write(&file, completed(toml, folder.path())).unwrap();
    // A launch line must be root's own.
    let output = camfire_output(&["check", "--config", file.to_str().unwrap()]);
    let is_of_this_machine = |line: &&str| {
        line.starts_with("problem: ")
            && !line.contains("is missing: install ")
            && !line.contains("may only be set in")
    };
    stdout(&output).lines().filter(is_of_this_machine).map(String::from).collect()
}

#[test]
fn documented_configurations_are_valid() {
    let mut checked = 0;
    let mut broken = Vec::new();
    for page in pages() {
        for (line, block) in page.blocks("toml") {
            // Templates and groups files are not configurations.
            if block.contains("launch = ") && block.contains("summary = ") {
                continue;
            }
            checked += 1;
            let found = problems(&block);
            broken.extend(found.into_iter().map(|problem| format!("{}:{line}: {problem}", page.path)));
        }
    }
    assert!(checked > 10, "{checked}");
    assert!(broken.is_empty(), "{broken:#?}");
    let broken = "[cameras.a]\nsource = 'rtsp://h/s'\nrate = 5\noptions.transport = 'pigeon'";
    assert_eq!(problems(broken).len(), 2, "{:?}", problems(broken));
}

/// The targets of the links of a page that do not exist.
fn dead_links(page: &Page) -> Vec<String> {
    let folder = root().join(&page.path).parent().unwrap().to_path_buf();
    let prose = page.prose();
    let links = prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let is_dead = |link: &&str| {
        if link.contains("://") || link.starts_with("mailto:") {
            return false;
        }
        let (file, anchor) =
            link.split_once('#').map_or((*link, None), |(file, anchor)| (file, Some(anchor)));
        if file.is_empty() {
            return anchor.is_some_and(|anchor| !page.anchors().contains(anchor));
        }
        let target = folder.join(file);
        let has_anchor = |anchor: &str| {
            let text = fs::read_to_string(&target).unwrap_or_default();
            Page { path: String::new(), text }.anchors().contains(anchor)
        };
        !target.exists() || anchor.is_some_and(|anchor| !has_anchor(anchor))
    };
    links.filter(is_dead).map(|link| format!("{}: {link}", page.path)).collect()
}

#[test]
fn links_between_documents_resolve() {
    let dead: Vec<String> = pages().iter().flat_map(dead_links).collect();
    assert!(dead.is_empty(), "{dead:#?}");
    let page = |text: &str| Page { path: "docs/a.md".into(), text: text.into() };
    let sound = page("# A `b.c`, d\n[x](#a-bc-d) [y](../README.md) [z](https://a.b/#c) ![i](mqtt.md#topics)");
    assert_eq!(dead_links(&sound), [""; 0]);
    assert_eq!(dead_links(&page("[x](gone.md) [y](#b) [z](mqtt.md#gone)")).len(), 3);
}

#[test]
fn every_document_is_linked_from_the_readme() {
    let readme = read("README.md").text;
    let unlinked: Vec<String> = pages()
        .into_iter()
        .map(|page| page.path)
        .filter(|path| path != "README.md" && !readme.contains(&format!("]({path})")))
        .collect();
    assert!(unlinked.is_empty(), "{unlinked:#?}");
}

/// The program's own text, without its tests, with the lines of long strings joined.
fn sources() -> String {
    let mut folders = vec![root().join("src")];
    let mut all = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("tests") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tests.rs")
            {
                let text = fs::read_to_string(&path).unwrap();
                all.push_str(text.split("#[cfg(test)]\nmod tests {").next().unwrap());
            }
        }
    }
    let mut joined = String::new();
    for (index, part) in all.split("\\\n").enumerate() {
        joined.push_str(if index == 0 { part } else { part.trim_start() });
    }
    joined.replace("\\\"", "\"")
}

/// The messages in the tables of a page: the first cells of rows below a head `message` or `reason`.
fn quoted_messages(page: &Page) -> Vec<String> {
    let mut messages = Vec::new();
    let mut is_table_of_messages = false;
    for line in page.text.lines() {
        let Some(row) = line.strip_prefix("| ") else {
            is_table_of_messages = false;
            continue;
        };
        let cell = row.split(" | ").next().unwrap();
        if ["message", "reason"].contains(&cell) {
            is_table_of_messages = true;
        } else if is_table_of_messages && !cell.starts_with("---") {
            let message = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
            messages
                .push(message.unwrap_or_else(|| panic!("{}: {cell} is not quoted", page.path)).to_string());
        }
    }
    messages
}

/// Whether the parts of a message, between its ellipses, are in one string of the sources, in order.
fn is_in(message: &str, sources: &str) -> bool {
    let parts: Vec<&str> = message.split('…').map(str::trim).filter(|part| !part.is_empty()).collect();
    let Some((first, others)) = parts.split_first() else { return false };
    sources.match_indices(first).any(|(at, _)| {
        let line = sources[at..].lines().next().unwrap_or_default();
        let mut rest = &line[first.len()..];
        others.iter().all(|part| match rest.find(part) {
            Some(found) => {
                rest = &rest[found + part.len()..];
                true
            }
            None => false,
        })
    })
}

#[test]
fn quoted_messages_exist() {
    let sources = sources();
    let messages = quoted_messages(&read("docs/troubleshooting.md"));
    assert!(messages.len() > 30, "{}", messages.len());
    let gone: Vec<&String> = messages.iter().filter(|message| !is_in(message, &sources)).collect();
    assert!(gone.is_empty(), "{gone:#?}");
    assert!(is_in("no answer to … within …", "format!(\"no answer to {what} within {} s\")"));
    assert!(!is_in("no answer to … beyond …", "format!(\"no answer to {what} within {} s\")"));
}

/// The rows of the tables in the sections of a page, by the section's heading.
fn rows_by_section(page: &Page) -> BTreeMap<String, Vec<Vec<String>>> {
    let mut sections: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    let mut heading = String::new();
    for line in page.text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            heading = name.to_string();
        } else if let Some(row) = line.strip_prefix("| ").and_then(|row| row.strip_suffix(" |")) {
            sections.entry(heading.clone()).or_default().push(row.split(" | ").map(String::from).collect());
        }
    }
    sections
}

/// What is missing on a page about the templates: `templates` by name.
fn undocumented(page: &Page, templates: &BTreeMap<String, toml::Table>) -> Vec<String> {
    let sections = rows_by_section(page);
    let mut missing = Vec::new();
    for (name, template) in templates {
        let quoted = format!("`{name}`");
        let section = sections.values().find(|rows| rows.iter().any(|row| row[0] == quoted));
        let Some(rows) = section else {
            missing.push(format!("{name} is in no table"));
            continue;
        };
        let row = rows.iter().find(|row| row[0] == quoted).unwrap();
        for need in template.get("needs").and_then(toml::Value::as_array).into_iter().flatten() {
            let package = format!("`{}`", need["package"].as_str().unwrap());
            if !row.iter().any(|cell| cell.contains(&package)) {
                missing.push(format!("{name}: {package}"));
            }
        }
        if let Some(rank) = template.get("rank")
            && row[1] != rank.to_string()
        {
            missing.push(format!("{name}: rank {rank}"));
        }
        for (option, rule) in template.get("options").and_then(toml::Value::as_table).into_iter().flatten() {
            let (values, default) = match rule["type"].as_str().unwrap() {
                "integer" => (format!("{} to {}", rule["min"], rule["max"]), rule["default"].to_string()),
                "switch" => ("true, false".to_string(), rule["default"].to_string()),
                "choice" => {
                    let words = rule["values"].as_array().unwrap().iter();
                    let words: Vec<String> =
                        words.map(|word| format!("`{}`", word.as_str().unwrap())).collect();
                    (words.join(", "), format!("`{}`", rule["default"].as_str().unwrap()))
                }
                // Documented as a key of its own.
                "launch" => continue,
                other => panic!("a new type of option: {other}"),
            };
            let expected = [format!("`{option}`"), values, default];
            if !rows.iter().any(|row| row.starts_with(&expected)) {
                missing.push(format!("{name}: {expected:?}"));
            }
        }
    }
    missing
}

#[test]
fn every_pipeline_and_every_option_is_documented() {
    let mut templates = BTreeMap::new();
    for entry in fs::read_dir(root().join("pipelines")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        templates.insert(name, fs::read_to_string(&path).unwrap().parse::<toml::Table>().unwrap());
    }
    let page = read("docs/cameras.md");
    let missing = undocumented(&page, &templates);
    assert!(missing.is_empty(), "{missing:#?}");
    // Each row of an option belongs to a template.
    let options: BTreeSet<String> = templates
        .values()
        .filter_map(|template| template.get("options")?.as_table())
        .flat_map(|options| options.keys().map(|option| format!("`{option}`")))
        .collect();
    for row in rows_by_section(&page).into_values().flatten().filter(|row| row.len() == 4) {
        let is_option = row[1].contains(" to ") || row[1] == "true, false";
        assert!(!is_option || options.contains(&row[0]), "{row:?}");
    }
    let broken = Page { text: page.text.replace("| 0 to 10000 | 200 |", "| 0 to 1000 | 200 |"), ..page };
    assert_eq!(undocumented(&broken, &templates).len(), 10, "each RTSP template has latency_ms");
}

/// A file that `camfire generate` writes.
fn generated(name: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    assert!(camfire().arg("generate").arg(folder.path()).status().unwrap().success());
    fs::read_to_string(folder.path().join(name)).unwrap()
}

#[test]
fn the_configuration_reference_is_current() {
    let today = generated("configuration.md");
    let written = read("docs/configuration.md").text;
    for (number, (today, written)) in today.lines().zip(written.lines()).enumerate() {
        assert_eq!(today, written, "docs/configuration.md:{}: run make configuration-reference", number + 1);
    }
    assert_eq!(today, written, "run make configuration-reference");
}

#[test]
fn the_man_page_of_the_configuration_is_valid() {
    let page = generated("man/camfire.toml.5");
    assert!(page.starts_with(".TH CAMFIRE.TOML 5") && page.contains("\\fBkeyframe_limit\\fR"), "{page}");
    // A line that begins with a dot is a request, and must be one of these.
    const REQUESTS: [&str; 12] =
        [".TH", ".SH", ".TP", ".TQ", ".RS", ".RE", ".IP", ".I", ".BR", ".br", ".sp", ".nf"];
    let unknown: Vec<&str> = (page.lines())
        .filter(|line| line.starts_with(['.', '\'']))
        .filter(|line| !REQUESTS.contains(&line.split(' ').next().unwrap()) && *line != ".fi")
        .collect();
    assert_eq!(unknown, [""; 0]);
}
