//! The page: its files, which are part of the program.

use axum::{
    extract::Path,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// What the page may load, and who may show it within a frame. It loads nothing from elsewhere. Pictures of
/// the live view are made by its scripts.
const POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; \
     form-action 'self'; frame-ancestors 'none'";

/// A file of the page.
struct File {
    name: &'static str,
    bytes: &'static [u8],
    /// Changes with its contents.
    tag: String,
}

/// Makes the list of files.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("page/", $name)))),*]
    };
}

/// All files. A test compares the list with the folder.
const FILES: &[(&str, &[u8])] = files![
    "api.js",
    "cameras.js",
    "changes.js",
    "dialog.js",
    "dom.js",
    "event.js",
    "events.js",
    "geometry.js",
    "icon.svg",
    "index.html",
    "live.js",
    "login.js",
    "main.js",
    "node.js",
    "overlay.js",
    "page.css",
    "picture.js",
    "plot.js",
    "preview.js",
    "scope.js",
    "setup.js",
    "shapes.js",
    "store.js",
    "stream.js",
    "text.js",
    "time.js",
];

static TAGGED: LazyLock<Vec<File>> = LazyLock::new(|| {
    let tag = |bytes: &[u8]| {
        let digits: String =
            Sha256::digest(bytes).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        format!("\"{digits}\"")
    };
    FILES.iter().map(|&(name, bytes)| File { name, bytes, tag: tag(bytes) }).collect()
});

/// `GET /`
pub async fn index(headers: HeaderMap) -> Response {
    serve("index.html", &headers)
}

/// `GET /NAME`
pub async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    serve(&name, &headers)
}

fn serve(name: &str, request: &HeaderMap) -> Response {
    let Some(file) = TAGGED.iter().find(|file| file.name == name) else {
        return (StatusCode::NOT_FOUND, headers("text/plain; charset=utf-8"), "no such page\n")
            .into_response();
    };
    let tag = [(header::ETAG, file.tag.as_str())];
    let known = request.get_all(header::IF_NONE_MATCH).iter();
    if known.into_iter().any(|known| known.as_bytes() == file.tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, headers(content_type(name)), tag).into_response();
    }
    (headers(content_type(name)), tag, file.bytes).into_response()
}

fn headers(content_type: &'static str) -> [(HeaderName, &'static str); 6] {
    [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Another version of camfire may run at the next request.
        (header::CACHE_CONTROL, "no-cache"),
    ]
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path};

    #[test]
    fn all_files_of_the_folder_are_served_and_they_are_small() {
        let folder = path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/page");
        let names =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let listed = FILES.iter().map(|(name, _)| name.to_string()).collect::<BTreeSet<_>>();
        assert_eq!(listed, names.collect::<BTreeSet<_>>());
        let bytes: usize = FILES.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes < 150_000, "{bytes} bytes");
        assert!(FILES.iter().all(|(name, _)| content_type(name) != "application/octet-stream"));
    }

    #[test]
    fn a_known_file_is_not_sent_again() {
        let first = serve("index.html", &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[header::ETAG].clone();
        let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)]);
        assert_eq!(serve("index.html", &known).status(), StatusCode::NOT_MODIFIED);
        for name in ["nothing.js", "../mod.rs", "", "%2e%2e/mod.rs"] {
            assert_eq!(serve(name, &HeaderMap::new()).status(), StatusCode::NOT_FOUND, "{name}");
        }
    }
}
