//! `camfire init`: writes a first configuration.
//!
//! It finds cameras and the broker ([`search`]), asks what it must ([`questions`]), opens each camera and
//! logs in to the broker before anything is written, and then writes ([`text`], [`files`]) and validates the
//! result as `camfire check` does. What exists is never overwritten.

mod files;
mod questions;
mod search;
mod text;

use super::{
    accounts::Account,
    check,
    doctor::{broker, streams},
    output,
    setup::{self, ConfigArguments},
};
use crate::{
    camera::{gst, onvif},
    config::{self, Broker, Camera, Config, Login, MAIN_FILE, Mqtt, Source},
    error::{Error, ErrorKind},
    publish::mqtt,
};
use files::Target;
use questions::Questions;
use search::Candidate;
use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    process::ExitCode,
};
use text::{BrokerEntry, CameraEntry, Entries, camera_name, quoted};

/// Times that a broker or a camera is tried with other answers.
const MAX_TRIES: usize = 5;

/// Arguments of `camfire init`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  sudo camfire init\n  camfire init --config ./camfire.toml\n  sudo camfire init --yes --camera yard=rtsp://viewer:secret@192.168.1.20/stream2 --broker broker.lan"
)]
pub struct Arguments {
    /// The file to write; if it exists, conf.d/cameras.toml beside it [default: /etc/camfire/camfire.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A camera to add instead of searching, for example yard=rtsp://user:password@192.168.1.20/stream2;
    /// repeatable. The password goes into a file of its own
    #[arg(long, value_name = "NAME=SOURCE", value_parser = setup::key_value)]
    camera: Vec<(String, String)>,
    /// Also ask this address for an ONVIF camera, as in another network segment; repeatable
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with = "camera")]
    onvif: Vec<String>,
    /// The broker [default: the configured one, 127.0.0.1:1883 unless a file says otherwise]
    #[arg(long, value_name = "HOST[:PORT]")]
    broker: Option<String>,
    /// User name at the broker
    #[arg(long, value_name = "USER")]
    broker_user: Option<String>,
    /// File with the password at the broker; it is copied
    #[arg(long, value_name = "FILE", requires = "broker_user")]
    broker_password_file: Option<PathBuf>,
    /// Ask nothing: take the answers in brackets, and add local cameras that work
    #[arg(long, short)]
    yes: bool,
    /// Read what the machine tells about itself below this directory; for tests
    #[arg(long, value_name = "DIRECTORY", default_value = "/", hide = true)]
    root: PathBuf,
}

/// Finds, asks, tries, writes. The exit status is 1 if something that was written does not work, or if there
/// is nothing to write.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let main = arguments.config.clone().unwrap_or_else(|| MAIN_FILE.into());
    let target = Target::choose(&main)?;
    let existing = existing(&target)?;
    gst::init()?;
    let mut init = Init {
        questions: Questions { takes_defaults: arguments.yes },
        existing,
        cameras: Vec::new(),
        all_work: true,
    };
    let broker = init.broker(&arguments)?;
    match arguments.camera.is_empty() {
        true => init.search(&arguments)?,
        false => init.add_named(&arguments.camera)?,
    }
    if init.cameras.is_empty() {
        output::note!("There is no camera to add; nothing was written. --camera NAME=SOURCE adds one.");
        return Ok(ExitCode::FAILURE);
    }
    let Init { questions, cameras, all_work, .. } = init;
    let entries = Entries { broker, cameras };
    let text = entries.toml(&target.directory);
    output::note!("\n{}:\n{}", target.file.display(), indented(&text));
    if !questions.is_yes("Write it?", true)? {
        output::note!("Nothing was written.");
        return Ok(ExitCode::FAILURE);
    }
    let account = Account::of_service(&arguments.root);
    for file in target.write(&text, &entries.passwords(), account.as_ref())? {
        output::line!("written: {}", file.display());
    }
    let config = ConfigArguments { config: Some(target.main.clone()), set: Vec::new() };
    let checked = check::report(&config, false)?;
    let is_valid = checked == ExitCode::SUCCESS;
    if is_valid {
        output::note!("{}", next_steps(&target.main, account.is_some()));
    }
    Ok(if is_valid && all_work { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The configuration to which something is added, or the defaults.
fn existing(target: &Target) -> Result<Config, Error> {
    let main = match target.main == target.file {
        true => config::Main::Text { name: "the defaults".into(), text: String::new() },
        false => config::Main::File(target.main.clone()),
    };
    setup::load(main, Vec::new()).map(|loaded| loaded.config)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}").trim_end().to_string()).collect::<Vec<_>>().join("\n")
}

/// What the user does next.
fn next_steps(main: &Path, is_service: bool) -> String {
    match is_service && main == Path::new(MAIN_FILE) {
        true => "Next: sudo systemctl enable --now camfire (if it runs already: sudo systemctl reload camfire), then \
                 camfire watch"
            .into(),
        false => {
            let file = main.display();
            format!("Next: camfire run --config {file}, and in another terminal: camfire watch --config {file}")
        }
    }
}

/// What is being put together.
struct Init {
    questions: Questions,
    existing: Config,
    cameras: Vec<CameraEntry>,
    /// Everything that was tried works.
    all_work: bool,
}

impl Init {
    /// Finds a broker that answers. Returns what to write: nothing if it is the configured one.
    fn broker(&mut self, arguments: &Arguments) -> Result<Option<BrokerEntry>, Error> {
        let configured = self.existing.mqtt.clone();
        let mut mqtt = configured.clone();
        if let Some(text) = &arguments.broker {
            mqtt.brokers = vec![broker_address(text, 1883)?];
        }
        if let Some(user) = &arguments.broker_user {
            let password = arguments.broker_password_file.as_deref().map(password_in).transpose()?;
            mqtt.login = Some(Login { user: user.clone(), password: password.unwrap_or_default() });
        }
        for attempt in 1..=MAX_TRIES {
            let why = match broker::answer(&mqtt) {
                Ok(()) => {
                    output::note!("Broker {} answers.", mqtt::broker(&mqtt));
                    break;
                }
                Err(why) => why,
            };
            output::note!("{why}");
            let is_last = self.questions.takes_defaults || attempt == MAX_TRIES;
            if is_last || !self.ask_for_broker(&mut mqtt, &why)? {
                output::note!("The broker {} is taken although it does not work.", mqtt::broker(&mqtt));
                self.all_work = false;
                break;
            }
        }
        let Broker { host, port } = mqtt.brokers[0].clone();
        let is_new = (&mqtt.brokers, &mqtt.login) != (&configured.brokers, &configured.login);
        Ok(is_new.then_some(BrokerEntry { host, port, login: mqtt.login }))
    }

    /// Asks for another broker or login. Returns false if the user changes nothing.
    fn ask_for_broker(&self, mqtt: &mut Mqtt, why: &str) -> Result<bool, Error> {
        if why.contains("refuses user and password") {
            let known = mqtt.login.as_ref().map(|login| login.user.clone()).unwrap_or_default();
            let user = self.questions.text("User name at the broker (empty: leave it as it is)", &known)?;
            if user.is_empty() {
                return Ok(false);
            }
            let password = self.questions.password("Password at the broker")?;
            mqtt.login = Some(Login { user, password });
            return Ok(true);
        }
        let answer =
            self.questions.text("Host name or IP address of the broker (empty: leave it as it is)", "")?;
        if answer.is_empty() {
            return Ok(false);
        }
        match broker_address(&answer, 1883) {
            Ok(broker) => mqtt.brokers = vec![broker],
            Err(error) => output::note!("{error}"),
        }
        Ok(true)
    }

    /// Searches for cameras, and asks about each of them.
    fn search(&mut self, arguments: &Arguments) -> Result<(), Error> {
        let asked: Vec<SocketAddr> =
            arguments.onvif.iter().map(|text| onvif_address(text)).collect::<Result<_, _>>()?;
        output::note!("Searching for cameras: V4L2, libcamera, ONVIF on the local network ...");
        let found = search::find(&arguments.root, &asked, &self.existing.cameras);
        if found.is_empty() {
            output::note!("None found that is not configured already.");
        }
        for candidate in found {
            output::note!("\nFound {}", candidate.text);
            if self.questions.takes_defaults {
                self.take(&candidate)?;
            } else if self.questions.is_yes("Add it?", true)? {
                self.ask_about(&candidate)?;
            }
        }
        while !self.questions.takes_defaults {
            let source = self
                .questions
                .text("\nAddress of another camera, such as rtsp://192.168.1.20/stream2 (empty: none)", "")?;
            if source.is_empty() {
                break;
            }
            let is_network = ["rtsp", "http"].iter().any(|scheme| source.starts_with(scheme));
            let candidate = Candidate {
                name: String::new(),
                text: String::new(),
                source,
                is_network,
                is_path_known: true,
            };
            self.ask_about(&candidate)?;
        }
        Ok(())
    }

    /// Adds a camera that was found if it works and nothing has to be asked.
    fn take(&mut self, candidate: &Candidate) -> Result<(), Error> {
        let name = camera_name(&candidate.name, &self.names());
        if candidate.is_network {
            let is_guess = if candidate.is_path_known { "" } else { "; its path is not known" };
            output::note!(
                "Not added, because it has a password: --camera {name}={}{is_guess}",
                candidate.source.replacen("rtsp://", "rtsp://USER:PASSWORD@", 1)
            );
            return Ok(());
        }
        match try_camera(&name, &candidate.source, None) {
            Ok((entry, text)) => {
                output::note!("{name}: {text}");
                self.cameras.push(entry);
            }
            Err((_, why)) => output::note!("{name} is not added: {why}"),
        }
        Ok(())
    }

    /// Asks for name, address and login of a camera until it works, or the user takes it as it is.
    fn ask_about(&mut self, candidate: &Candidate) -> Result<(), Error> {
        let name = self.ask_name(&camera_name(&candidate.name, &self.names()))?;
        let mut source = candidate.source.clone();
        let mut is_asked = candidate.is_network && !candidate.text.is_empty();
        let mut user = String::new();
        for attempt in 1..=MAX_TRIES {
            if is_asked {
                source = self.questions.text("Address of its stream", &source)?;
            }
            let mut login = None;
            let has_login = load_camera(&name, &source, None).is_ok_and(|camera| camera.login.is_some());
            if candidate.is_network && !has_login {
                user = self.questions.text("User name (empty or -: none)", &user)?;
                if !user.is_empty() && user != "-" {
                    let password = self.questions.password("Password")?;
                    login = Some(Login { user: user.clone(), password });
                }
            }
            output::note!("Opening it ...");
            let (entry, why) = match try_camera(&name, &source, login) {
                Ok((entry, text)) => {
                    output::note!("{name}: {text}");
                    self.cameras.push(entry);
                    return Ok(());
                }
                Err(failed) => failed,
            };
            output::note!("{name}: {why}");
            if attempt < MAX_TRIES && self.questions.is_yes("Try again?", true)? {
                is_asked = true;
                continue;
            }
            if let Some(entry) = entry
                && self.questions.is_yes("Add it although it does not work?", false)?
            {
                self.cameras.push(entry);
                self.all_work = false;
            }
            break;
        }
        Ok(())
    }

    /// Asks for the name of a camera until it is valid and new.
    fn ask_name(&self, default: &str) -> Result<String, Error> {
        loop {
            let name = self.questions.text("Its name", default)?;
            match self.check_name(&name) {
                Ok(()) => return Ok(name),
                Err(why) => output::note!("{why}"),
            }
        }
    }

    /// Adds the cameras of the command line, whether they work or not.
    fn add_named(&mut self, named: &[(String, String)]) -> Result<(), Error> {
        for (name, source) in named {
            self.check_name(name).map_err(|why| Error::new(ErrorKind::Input, why))?;
            output::note!("Opening {name} ...");
            match try_camera(name, source, None) {
                Ok((entry, text)) => {
                    output::note!("{name}: {text}");
                    self.cameras.push(entry);
                }
                Err((Some(entry), why)) => {
                    output::note!("{name} is added although it does not work: {why}");
                    self.cameras.push(entry);
                    self.all_work = false;
                }
                Err((None, why)) => return Err(Error::new(ErrorKind::Input, why)),
            }
        }
        Ok(())
    }

    fn names(&self) -> Vec<String> {
        let existing = self.existing.cameras.iter().map(|camera| camera.name.clone());
        existing.chain(self.cameras.iter().map(|camera| camera.name.clone())).collect()
    }

    /// Errors: the rule that the name breaks.
    fn check_name(&self, name: &str) -> Result<(), String> {
        if self.names().iter().any(|taken| taken == name) {
            return Err(format!("there is a camera {name} already"));
        }
        load_camera(name, "test://", None).map(drop)
    }
}

/// Opens a camera. Returns what to write about it, and its stream in words.
///
/// Errors: what to write about it, unless it breaks a rule of the configuration, and the reason.
fn try_camera(
    name: &str,
    source: &str,
    login: Option<Login>,
) -> Result<(CameraEntry, String), (Option<CameraEntry>, String)> {
    let camera = load_camera(name, source, login).map_err(|why| (None, why))?;
    let source = match &camera.source {
        // Without the login that the user may have put into it.
        Source::Rtsp { url } | Source::Http { url } => url.clone(),
        _ => source.to_string(),
    };
    let entry = CameraEntry { name: name.to_string(), source, login: camera.login.clone() };
    let mut measured = streams::measure(std::slice::from_ref(&camera));
    match measured.pop() {
        Some(Ok(opened)) => Ok((entry, streams::describe(&opened))),
        Some(Err(why)) => Err((Some(entry), why)),
        None => Err((Some(entry), "it was not opened".into())),
    }
}

/// A camera as the configuration would have it.
///
/// Errors: the rules that it breaks.
fn load_camera(name: &str, source: &str, login: Option<Login>) -> Result<Camera, String> {
    let mut text = format!("[cameras.{}]\nsource = {}\n", quoted(name), quoted(source));
    if let Some(Login { user, password }) = login {
        text += &format!("user = {}\npassword = {}\n", quoted(&user), quoted(&password));
    }
    let main = config::Main::Text { name: "this answer".into(), text };
    let loaded = setup::load(main, Vec::new()).map_err(|error| error.to_string())?;
    let camera = loaded.config.cameras.into_iter().find(|camera| camera.name == name);
    camera.ok_or_else(|| "the environment replaces it".to_string())
}

/// The host and port that the user has typed.
///
/// Errors ([`ErrorKind::Input`]): the rule that they break.
fn broker_address(text: &str, port: u16) -> Result<Broker, Error> {
    let (host, port) = config::parse_broker(text, port)
        .map_err(|rule| Error::new(ErrorKind::Input, format!("{text:?} {rule}")))?;
    Ok(Broker { host, port })
}

/// Errors ([`ErrorKind::Input`]): the name has no address.
fn onvif_address(text: &str) -> Result<SocketAddr, Error> {
    let Broker { host, port } = broker_address(text, onvif::PORT)?;
    let unknown = |error| Error::caused(ErrorKind::Input, format!("--onvif {text}"), error);
    let mut addresses = (host.as_str(), port).to_socket_addrs().map_err(unknown)?;
    addresses.next().ok_or_else(|| Error::new(ErrorKind::Input, format!("--onvif {text}: it has no address")))
}

fn password_in(file: &Path) -> Result<String, Error> {
    config::read_password(file)
        .map_err(|error| Error::caused(ErrorKind::Input, file.display().to_string(), error))
}
