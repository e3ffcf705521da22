//! Passwords and launch lines: where they may come from, and that they are never printed.

use super::*;

#[test]
fn a_launch_line_must_come_from_a_file_that_only_root_can_write() {
    let custom = "[cameras.a]\nsource = \"custom\"\nlaunch = \"videotestsrc\"\n";
    let files = directory(&[("camfire.toml", custom)]);
    let file = files.path().join("camfire.toml");
    let is_root = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&file).unwrap()) == 0;
    if is_root {
        assert_eq!(loaded(&main_file(&files)).config.cameras.len(), 1);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let rule = "may only be set in a file that only root can write (chmod go-w)";
        let expected = format!("{}:3: cameras.a.launch = \"videotestsrc\": {rule}", file.display());
        assert_eq!(problems(&main_file(&files)), [expected]);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        // Whoever controls a directory above it can put another file in its place.
        let above = files.path().join("above");
        fs::create_dir_all(above.join("etc")).unwrap();
        fs::write(above.join("etc/camfire.toml"), custom).unwrap();
        fs::set_permissions(&above, fs::Permissions::from_mode(0o777)).unwrap();
        let below = Inputs { main: Main::File(above.join("etc/camfire.toml")), ..Inputs::default() };
        let rule = format!(
            "may only be set in a file that nobody but root can replace, but others control {}",
            above.display()
        );
        let expected =
            format!("{}/etc/camfire.toml:3: cameras.a.launch = \"videotestsrc\": {rule}", above.display());
        assert_eq!(problems(&below), [expected]);
        std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
    }
    let rule = "may only be set in a file that belongs to root";
    let expected = format!("{}:3: cameras.a.launch = \"videotestsrc\": {rule}", file.display());
    assert_eq!(problems(&main_file(&files)), [expected]);

    let other = "[cameras.a]\nsource = \"custom\"\n";
    let flags = pairs(&[("cameras.a.launch", "videotestsrc")]);
    let rule = "may only be set in a configuration file that belongs to root";
    let expected = format!("--set cameras.a.launch=videotestsrc: {rule}");
    assert_eq!(problems(&Inputs { flags, ..text(other) }), [expected]);
}

#[test]
fn a_password_has_exactly_one_source() {
    let files = directory(&[
        ("p", "file secret\r\n"),
        ("credentials/mqtt-password", "broker secret\n"),
        ("credentials/camera-yard-password", " spaces stay \n\n"),
    ]);
    let path = |name: &str| files.path().join(name).display().to_string();
    let with_credentials =
        |toml: &str| Inputs { credentials: Some(files.path().join("credentials")), ..text(toml) };

    let broker = |keys: &str| loaded(&with_credentials(&format!("[mqtt]\n{keys}"))).config.mqtt.login;
    assert_eq!(broker("user = \"me\""), login("me", "broker secret"));
    assert_eq!(broker("user = \"me\"\npassword = \"written\""), login("me", "written"));
    assert_eq!(
        broker(&format!("user = \"me\"\npassword_file = {:?}", path("p"))),
        login("me", "file secret")
    );
    assert_eq!(loaded(&text("[mqtt]\nuser = \"me\"")).config.mqtt.login, login("me", ""));
    assert_eq!(loaded(&text("")).config.mqtt.login, None);
    assert_eq!(
        problems(&with_credentials("")),
        [format!(
            "mqtt.user: is required, because there is a password in {}",
            path("credentials/mqtt-password")
        )]
    );

    let yard = |keys: &str| {
        let inputs = with_credentials(&format!("[mqtt]\nuser = \"me\"\n[cameras.yard]\n{keys}"));
        loaded(&inputs).config.cameras.remove(0)
    };
    assert_eq!(yard("source = \"rtsp://h/s\"\nuser = \"me\"").login, login("me", " spaces stay \n"));
    let in_address = yard("source = \"rtsp://me:p%40ss@h/s\"");
    assert_eq!(in_address.source, Source::Rtsp { url: "rtsp://h/s".into() });
    assert_eq!(in_address.login, login("me", "p@ss"));
    assert_eq!(yard("source = \"rtsp://me@h/s\"").login, login("me", " spaces stay \n"));
    assert_eq!(yard("source = \"test://\"").login, None);
}

#[test]
fn questionable_settings_cause_warnings() {
    let none = loaded(&text("")).warnings;
    assert!(none.len() == 1 && none[0].contains("add a section [cameras.NAME]"), "{none:?}");

    let in_address = loaded(&text("[cameras.a]\nsource = \"rtsp://me:hunter2@h/s\"")).warnings;
    assert_eq!(
        in_address,
        [
            "camfire.toml:2: cameras.a.source = \"rtsp://***@h/s\": a URL with a password is easily shared; use user \
          and password_file instead"
        ]
    );

    let files = directory(&[
        (
            "camfire.toml",
            "[mqtt]\nuser = \"me\"\npassword = \"hunter2\"\n[cameras.a]\nsource = \"test://\"\n",
        ),
        ("p", "hunter2"),
    ]);
    assert!(loaded(&main_file(&files)).warnings.is_empty());
    let open = |name: &str| {
        let path = files.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path.display().to_string()
    };
    let main = open("camfire.toml");
    assert_eq!(
        loaded(&main_file(&files)).warnings,
        [format!(
            "{main}:3: mqtt.password: this file is readable by all users of this machine; use password_file, or run \
             chmod o-r on it"
        )]
    );
    let toml =
        format!("[mqtt]\nuser = \"me\"\npassword_file = {:?}\n[cameras.a]\nsource = \"test://\"", open("p"));
    let warnings = loaded(&text(&toml)).warnings;
    assert!(warnings[0].ends_with("this file is readable by all users of this machine; run chmod o-r on it"));
}

#[test]
fn no_password_is_ever_printed() {
    let toml =
        "[mqtt]\nuser = \"me\"\npassword = \"hunter2\"\n[cameras.a]\nsource = \"rtsp://me:hunter2@h/s\"\n";
    let loaded = loaded(&text(toml));
    assert_eq!(loaded.config.mqtt.login, login("me", "hunter2"));
    assert!(!format!("{loaded:?}").contains("hunter2"));
    let wrong = "[mqtt]\npassword = [\"hunter2\"]\npass = \"hunter2\"\n[cameras.a]\nsource = \"rtsp://me:hun/ter2@h\"\n\
                 options.token = [\"hunter2\"]\n[password]\nx = \"hunter2\"\n";
    let problems = load(&text(wrong)).unwrap_err();
    assert!(!format!("{problems} {problems:?}").contains("ter2"), "{problems}");
}

#[test]
fn the_passwords_of_the_page_are_in_a_file_or_a_credential() {
    let mut passwords = web_passwords::WebPasswords::default();
    passwords.set_token("grafana", web_passwords::Role::Viewer, "secret").unwrap();
    let files = directory(&[
        ("own", passwords.to_text().as_str()),
        ("credentials/web-passwords", passwords.to_text().replace("viewer", "admin").as_str()),
    ]);
    let role = |toml: &str, credentials: Option<&str>| {
        let credentials = credentials.map(|name| files.path().join(name));
        let passwords = loaded(&Inputs { credentials, ..text(toml) }).config.web.passwords;
        passwords.and_then(|passwords| passwords.role_of_token("secret"))
    };
    let named = format!("web.password_file = {:?}", files.path().join("own").display().to_string());
    assert_eq!(role(&named, Some("credentials")), Some(web_passwords::Role::Viewer), "the file comes first");
    assert_eq!(role("", Some("credentials")), Some(web_passwords::Role::Admin));
    assert_eq!(role("", Some("elsewhere")), None);
    assert_eq!(role("", None), None);
}
