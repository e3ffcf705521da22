//! What the Debian package is made of: man pages and completions, and the configuration that it installs.
//! `make test-deb` tests the built package.

use crate::support::{camfire, camfire_output, root, stdout};
use std::fs;

/// The visible subcommands, from `camfire --help`.
fn subcommands() -> Vec<String> {
    let help = stdout(&camfire_output(&["--help"]));
    let lines = help.split_once("Commands:\n").unwrap().1.lines().take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .map(|line| line.split_whitespace().next().unwrap().to_string())
        .filter(|name| name != "help")
        .collect()
}

#[test]
fn man_pages_and_completions_cover_every_subcommand() {
    let folder = tempfile::tempdir().unwrap();
    assert!(camfire().arg("generate").arg(folder.path()).status().unwrap().success());
    let read = |name: &str| {
        let path = folder.path().join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let subcommands = subcommands();
    assert!(subcommands.len() >= 10 && !subcommands.contains(&"generate".to_string()), "{subcommands:?}");
    let completions =
        ["camfire.bash", "_camfire", "camfire.fish"].map(|name| read(&format!("completions/{name}")));
    for name in &subcommands {
        assert!(
            read("man/camfire.1").contains(&format!("camfire\\-{}(1)", name.replace('-', "\\-"))),
            "{name}"
        );
        let page = read(&format!("man/camfire-{name}.1"));
        let help = stdout(&camfire_output(&[name, "--help"]));
        let options = help.split_whitespace().filter(|word| word.starts_with("--"));
        for option in options.map(|word| word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-'))
        {
            assert!(page.contains(&option.replace('-', "\\-")), "{name}: {option}");
        }
        assert!(completions.iter().all(|text| text.contains(name.as_str())), "{name}");
    }
    let pages = fs::read_dir(folder.path().join("man")).unwrap().count();
    assert_eq!(pages, subcommands.len() + 2, "one for camfire and one for its configuration");
    assert!(completions.iter().all(|text| !text.contains("generate")));
}

#[test]
fn the_installed_configuration_is_valid_idle_and_its_examples_work() {
    let file = root().join("packaging/camfire.toml");
    let check =
        |path: &std::path::Path| stdout(&camfire_output(&["check", "--config", path.to_str().unwrap()]));
    let found = check(&file);
    assert!(found.ends_with(&format!("ok: {}; 0 cameras\n", file.display())), "{found}");
    assert_eq!(found.matches("warning").count(), 1, "{found}");
    // As a user would: every "#" that stands before an example is removed.
    let text = fs::read_to_string(&file).unwrap();
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(example) if !example.starts_with(' ') => example,
        _ => line,
    });
    let folder = tempfile::tempdir().unwrap();
    let edited = folder.path().join("camfire.toml");
    fs::write(&edited, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let found = check(&edited);
    assert!(found.ends_with(&format!("ok: {}; 1 cameras\n", edited.display())), "{found}");
}

/// The credentials of the example are those that the configuration knows.
#[test]
fn the_example_of_credentials_names_those_that_exist() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let names: Vec<String> = read("packaging/examples/passwords.conf")
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix("LoadCredential="))
        .map(|value| value.split(':').next().unwrap().to_string())
        .collect();
    assert_eq!(names, ["mqtt-password", "camera-yard-password"]);
    let manual = read("config/camfire.toml");
    assert!(names.iter().all(|name| manual.contains(name.as_str())));
}
