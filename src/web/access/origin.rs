//! Whether a request that changes something comes from the page itself. A browser tells where the page comes
//! from that makes a request, and sends the cookie of this server along whatever page that is.

use axum::http::{HeaderMap, header, uri::Authority};

/// Whether the page that caused the request, if any, was served by this server. `is_secure`: the browser
/// speaks https, so that page must have come by https as well.
pub fn is_same_origin(headers: &HeaderMap, is_secure: bool) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(origin) = text(header::ORIGIN.as_str()) {
        let origin = origin.split_once("://").filter(|(scheme, _)| !is_secure || *scheme == "https");
        let origin = origin.and_then(|(_, rest)| rest.parse::<Authority>().ok());
        let host = text(header::HOST.as_str()).and_then(|host| host.parse::<Authority>().ok());
        return origin.is_some() && origin == host;
    }
    // Programs that are no browsers send neither.
    text("sec-fetch-site").is_none_or(|app| app == "same-origin" || app == "none")
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    #[test]
    fn other_sites_are_told_by_their_origin() {
        let is_same = |pairs: &[(&'static str, &str)], is_secure| {
            let pairs = pairs
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
            super::is_same_origin(&pairs.collect(), is_secure)
        };
        let is_same_origin = |pairs: &[_]| is_same(pairs, false);
        let host = ("host", "porch:8080");
        assert!(is_same_origin(&[host, ("origin", "http://porch:8080")]));
        assert!(is_same(&[host, ("origin", "https://porch:8080")], true));
        assert!(!is_same(&[host, ("origin", "http://porch:8080")], true), "a page without encryption");
        assert!(is_same_origin(&[host, ("origin", "https://porch:8080")]), "a proxy that is not named");
        assert!(is_same_origin(&[host]), "a program");
        assert!(is_same_origin(&[host, ("sec-fetch-site", "same-origin")]));
        for origin in ["http://evil.example", "http://porch", "http://porch:80801", "null", "http://x@evil"] {
            assert!(!is_same_origin(&[host, ("origin", origin)]), "{origin}");
        }
        assert!(!is_same_origin(&[host, ("sec-fetch-site", "cross-site")]));
    }
}
