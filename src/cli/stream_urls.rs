//! What is known about the addresses of network cameras' streams: the one of a maker's substream, and the
//! substream that belongs to a main stream.

/// Parts of the names of makers and models, in lower case, and the path of their substream.
const SUBSTREAMS: [(&[&str], &str); 7] = [
    (&["hikvision", "hilook", "ds-2"], "/Streaming/Channels/102"),
    (&["dahua", "amcrest", "lorex", "ipc-hd", "ipc-hf"], "/cam/realmonitor?channel=1&subtype=1"),
    (&["reolink"], "/h264Preview_01_sub"),
    (&["tp-link", "tapo", "vigi"], "/stream2"),
    (&["axis"], "/axis-media/media.amp?resolution=640x360"),
    (&["uniview", "unv"], "/media/video2"),
    (&["foscam"], "/videoSub"),
];
/// Endings of main streams' addresses, and what stands there in the address of the substream.
const MAIN_AND_SUB: [(&str, &str); 7] = [
    ("/Streaming/Channels/101", "/Streaming/Channels/102"),
    ("subtype=0", "subtype=1"),
    ("Preview_01_main", "Preview_01_sub"),
    ("/stream1", "/stream2"),
    ("/media/video1", "/media/video2"),
    ("/videoMain", "/videoSub"),
    ("/main/av_stream", "/sub/av_stream"),
];

/// The path of the substream of a camera with this name. None if the maker is not known.
pub fn substream_path(camera: &str) -> Option<&'static str> {
    let camera = camera.to_lowercase();
    let known = SUBSTREAMS.iter().find(|(makers, _)| makers.iter().any(|maker| camera.contains(maker)));
    known.map(|(_, path)| *path)
}

/// The probable address of the substream of the camera whose main stream is at `url`. None if `url` does not
/// look like that of a main stream.
pub fn substream_of(url: &str) -> Option<String> {
    MAIN_AND_SUB.iter().find_map(|(main, sub)| {
        let (start, end) = url.rsplit_once(main)?;
        // Not the beginning of another word or number.
        let is_whole = !end.starts_with(|c: char| c.is_ascii_alphanumeric());
        is_whole.then(|| format!("{start}{sub}{end}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substreams_are_guessed_from_names_and_main_streams() {
        assert_eq!(substream_path("HIKVISION DS-2CD2032"), Some("/Streaming/Channels/102"));
        assert_eq!(substream_path("TP-Link C200"), Some("/stream2"));
        assert_eq!(substream_path("Nameless"), None);
        for (main, sub) in [
            ("rtsp://10.0.0.9/Streaming/Channels/101", Some("rtsp://10.0.0.9/Streaming/Channels/102")),
            (
                "rtsp://h/cam/realmonitor?channel=1&subtype=0",
                Some("rtsp://h/cam/realmonitor?channel=1&subtype=1"),
            ),
            ("rtsp://h/cam?subtype=0&proto=Onvif", Some("rtsp://h/cam?subtype=1&proto=Onvif")),
            ("rtsp://h/stream1", Some("rtsp://h/stream2")),
            ("rtsp://h/stream10", None),
            ("rtsp://h/stream2", None),
        ] {
            assert_eq!(substream_of(main).as_deref(), sub);
        }
    }
}
