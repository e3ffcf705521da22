//! A client that subscribes and returns the messages it receives. Used by `watch`, `demo` and `doctor`.

use super::{broker, client_options, describe, network_options};
use crate::{
    config,
    error::{Error, ErrorKind},
};
use rumqttc::{Client, Connection, Event, Packet, QoS, RecvTimeoutError};
use std::time::Duration;

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
        let mut subscriber = Subscriber { client, connection, filters, broker: broker(config) };
        // Waits for the broker's answer, so that a wrong address is an error.
        while !matches!(subscriber.poll(None)?, Some(Polled::Connected)) {}
        Ok(subscriber)
    }

    /// Returns the next message, or None if none arrived within `timeout`. None as `timeout` waits forever.
    ///
    /// Errors ([`ErrorKind::System`]): the connection was lost.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Received>, Error> {
        loop {
            match self.poll(timeout)? {
                Some(Polled::Message(message)) => return Ok(Some(message)),
                Some(Polled::Connected | Polled::Other) => {}
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
        match event.map_err(|e| lost(&describe(&e)))? {
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
            _ => Ok(Some(Polled::Other)),
        }
    }
}

/// A processed event.
enum Polled {
    Connected,
    Message(Received),
    Other,
}
