//! Whether the configured brokers answer and accept the login.

use super::finding::Finding;
use crate::{
    cli::bounded,
    config::Mqtt,
    publish::mqtt::{self, subscriber::Subscriber},
};
use std::time::Duration;

/// Time for a broker to answer. Shorter than that only if the configuration says so.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for everything, also for the resolver of names, which has no limit of its own.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Reports on all brokers, which are asked side by side. If one answers, another that does not is no fault.
pub fn findings(config: &Mqtt) -> Vec<Finding> {
    let one = |broker: &_| Mqtt { brokers: vec![Clone::clone(broker)], ..config.clone() };
    let calls: Vec<_> = config.brokers.iter().map(one).map(|one| (mqtt::broker(&one), start(one))).collect();
    let answers: Vec<_> = calls.into_iter().map(|(name, call)| (name, wait(&call))).collect();
    let is_any_usable = answers.iter().any(|(_, answer)| answer.is_ok());
    let login = match &config.login {
        Some(login) => format!("and accepts the user {:?}", login.user),
        None => "and needs no login".into(),
    };
    let finding = |(name, answer): (String, Result<(), String>)| match answer {
        Ok(()) => Finding::good("broker", format!("{name} answers {login}")).with("address", name),
        Err(why) if is_any_usable => {
            Finding::advice("broker", format!("{why}; another one answers")).with("address", name)
        }
        Err(why) => Finding::fault("broker", advise(&why, config)).with("address", name),
    };
    answers.into_iter().map(finding).collect()
}

/// Connects to the first broker, and disconnects.
///
/// Errors: the reason why it cannot be used, with its address.
pub fn answer(config: &Mqtt) -> Result<(), String> {
    wait(&start(config.clone()))
}

fn start(config: Mqtt) -> bounded::Call<Result<(), String>> {
    let connect_timeout = config.connect_timeout.min(CONNECT_TIMEOUT);
    let config = Mqtt { connect_timeout, ..config };
    bounded::start(move || Subscriber::connect(&config, Vec::new()).map(drop).map_err(|e| e.to_string()))
}

fn wait(call: &bounded::Call<Result<(), String>>) -> Result<(), String> {
    call.wait(TIMEOUT).unwrap_or_else(|| Err(format!("it does not answer within {} s", TIMEOUT.as_secs())))
}

/// Adds what to do, where the reason does not say it.
fn advise(why: &str, config: &Mqtt) -> String {
    let is_local =
        config.brokers.iter().all(|broker| ["127.0.0.1", "localhost", "::1"].contains(&&*broker.host));
    if why.contains("onnection refused") && is_local {
        format!("{why}: no broker runs here: sudo apt install mosquitto, or set mqtt.host")
    } else if why.contains("refuses user and password") && config.login.is_none() {
        format!("{why}: set mqtt.user and mqtt.password_file")
    } else {
        why.to_string()
    }
}
