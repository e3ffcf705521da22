//! A client that subscribes and returns the messages it receives. Used by `watch`, `demo` and `doctor`.

use super::{broker, client_options, describe, network_options, probe::Probe};
use crate::{
    config,
    error::{Error, ErrorKind},
};
use rumqttc::{Client, Connection, ConnectionError, Event, Packet, QoS, RecvTimeoutError};
use std::time::Duration;

/// Number of retained messages that are removed at a time.
const MAX_RETRACTED: usize = 8;

/// A received message.
#[derive(Debug, Clone)]
pub struct Received {
    /// MQTT topic.
    pub topic: String,
    /// MQTT payload.
    pub payload: Vec<u8>,
}

/// A connected subscriber.
pub struct Subscriber {
    client: Client,
    connection: Connection,
    filters: Vec<String>,
    /// `host:port`, for error texts.
    broker: String,
    /// Until the broker has accepted the connection.
    probe: Option<Probe>,
}

impl Subscriber {
    /// Connects and subscribes to `filters`. Returns once the broker has accepted the connection.
    ///
    /// Errors ([`ErrorKind::System`]): the broker cannot be reached or refuses the connection.
    pub fn connect(config: &config::Mqtt, filters: Vec<String>) -> Result<Subscriber, Error> {
        // Must differ from the daemon's client id, or the broker would close the daemon's connection.
        let client_id = format!("{}-watch-{}", config.client_id, std::process::id());
        let options = client_options(config, 0, &client_id)?;
        let (client, mut connection) = Client::new(options, filters.len() + 8);
        connection.eventloop.set_network_options(network_options(config));
        let probe = Some(Probe::new(config, 0));
        let mut subscriber = Subscriber { client, connection, filters, broker: broker(config), probe };
        // Waits for the broker's answer, so that a wrong address is an error.
        while !matches!(subscriber.poll(None)?, Some(Polled::Connected)) {}
        subscriber.probe = None;
        Ok(subscriber)
    }

    /// Removes the retained messages of these topics. Waits up to `timeout` for each answer of the broker.
    ///
    /// Errors ([`ErrorKind::System`]): the connection was lost, or the broker does not answer.
    pub fn retract(&mut self, topics: &[String], timeout: Duration) -> Result<(), Error> {
        let failed = |why: &dyn std::fmt::Display, broker: &str| {
            Error::new(ErrorKind::System, format!("broker {broker}: {why}"))
        };
        for topics in topics.chunks(MAX_RETRACTED) {
            for topic in topics {
                let sent = self.client.try_publish(topic, QoS::AtLeastOnce, true, Vec::new());
                sent.map_err(|e| failed(&e, &self.broker))?;
            }
            let mut waiting = topics.len();
            while waiting > 0 {
                match self.poll(Some(timeout))? {
                    Some(Polled::Acknowledged) => waiting -= 1,
                    Some(Polled::Connected | Polled::Message(_) | Polled::Other) => {}
                    None => return Err(failed(&"it does not answer in time", &self.broker)),
                }
            }
        }
        Ok(())
    }

    /// Returns the next message, or None if none arrived within `timeout`. None as `timeout` waits forever.
    ///
    /// Errors ([`ErrorKind::System`]): the connection was lost.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Received>, Error> {
        loop {
            match self.poll(timeout)? {
                Some(Polled::Message(message)) => return Ok(Some(message)),
                Some(Polled::Connected | Polled::Acknowledged | Polled::Other) => {}
                None => return Ok(None),
            }
        }
    }

    /// Processes one event of the connection. Returns None if there was none within `timeout`.
    fn poll(&mut self, timeout: Option<Duration>) -> Result<Option<Polled>, Error> {
        let lost = |error: &dyn std::fmt::Display| {
            Error::new(ErrorKind::System, format!("broker {}: {error}", self.broker))
        };
        let event = match timeout {
            None => self.connection.recv().map_err(|_| lost(&"the client has ended"))?,
            Some(timeout) => match self.connection.recv_timeout(timeout) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Err(lost(&"the client has ended")),
            },
        };
        let explain = |error: &ConnectionError| {
            let reason = self.probe.as_ref().and_then(|probe| probe.reason_blocking(error));
            reason.map_or_else(|| describe(error), str::to_string)
        };
        match event.map_err(|error| lost(&explain(&error)))? {
            Event::Incoming(Packet::ConnAck(_)) => {
                for filter in &self.filters {
                    self.client.try_subscribe(filter, QoS::AtLeastOnce).map_err(|e| lost(&e))?;
                }
                Ok(Some(Polled::Connected))
            }
            Event::Incoming(Packet::Publish(publish)) => Ok(Some(Polled::Message(Received {
                topic: publish.topic,
                payload: publish.payload.to_vec(),
            }))),
            Event::Incoming(Packet::PubAck(_)) => Ok(Some(Polled::Acknowledged)),
            _ => Ok(Some(Polled::Other)),
        }
    }
}

/// A processed event.
enum Polled {
    Connected,
    Message(Received),
    Acknowledged,
    Other,
}
