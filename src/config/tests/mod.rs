//! Tests of the whole configuration: text goes in, and a `Config` or the lines of its problems come out.

mod errors;
mod keys;
mod layers;
mod secrets;
mod values;

use super::{
    key::{Key, KeyKind},
    lookup::{Entry, lookup},
    problems::Problem,
    *,
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};
use tempfile::TempDir;

fn text(text: &str) -> Inputs {
    Inputs { main: Main::Text { name: "camfire.toml".into(), text: text.into() }, ..Inputs::default() }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn loaded(inputs: &Inputs) -> Loaded {
    load(inputs).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Returns the lines of the problems, without the last line with their number.
fn problems(inputs: &Inputs) -> Vec<String> {
    match load(inputs) {
        Ok(loaded) => panic!("no problem in {:?}", loaded.config),
        Err(problems) => problems.iter().map(Problem::to_string).collect(),
    }
}

fn camera(toml: &str) -> Camera {
    loaded(&text(toml)).config.cameras.remove(0)
}

fn login(user: &str, password: &str) -> Option<Login> {
    Some(Login { user: user.into(), password: password.into() })
}

/// Creates a directory with files of these names and contents, readable by their owner only.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    directory
}

fn main_file(directory: &TempDir) -> Inputs {
    Inputs { main: Main::File(directory.path().join("camfire.toml")), ..Inputs::default() }
}
