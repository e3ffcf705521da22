//! The daemon's connections, implemented with rumqttc: [`MqttDialer`] opens them, [`ConnectionDriver`] drives
//! them on a thread of its own.

use super::{broker_name, client_options, describe, network_options, probe::Probe};
use crate::{
    config,
    publish::connection::{Connection, Dialer, LinkEvent, MAX_RECEIVED_BYTES},
    wire::topics::{OFFLINE, Topics},
};
use crossbeam_channel::{Receiver, Sender};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, LastWill, Outgoing, Packet, QoS, SubscribeFilter,
    SubscribeReasonCode,
};
use tokio::sync::{mpsc, oneshot};

/// Capacity of rumqttc's send queue: messages to be acknowledged, and transient ones.
const MAX_REQUESTS: usize = 200;
/// Maximum number of unacknowledged messages in rumqttc. The publisher's own limit is lower.
const MAX_INFLIGHT: u16 = 200;
/// Maximum number of events that wait for the publisher. Beyond it the connection is no longer read.
const MAX_QUEUED_EVENTS: usize = 1000;

/// Opens connections. Their last will is `offline` on the node's status topic.
pub struct MqttDialer {
    config: config::Mqtt,
    will_topic: String,
    opened: mpsc::UnboundedSender<OpenedConnection>,
}

/// Drives the opened connections, one after another.
pub struct ConnectionDriver {
    opened: mpsc::UnboundedReceiver<OpenedConnection>,
    events: Sender<(u64, LinkEvent)>,
}

/// A connection to be driven by the [`ConnectionDriver`].
struct OpenedConnection {
    number: u64,
    event_loop: EventLoop,
    probe: Probe,
    /// Resolves when the [`MqttConnection`] is dropped.
    abandoned: oneshot::Receiver<()>,
}

/// Creates a dialer, the driver of its connections, and the receiver of their events.
pub fn connections(
    config: config::Mqtt,
    topics: &Topics,
) -> (MqttDialer, ConnectionDriver, Receiver<(u64, LinkEvent)>) {
    let (opened, opened_receiver) = mpsc::unbounded_channel();
    let (events, event_receiver) = crossbeam_channel::bounded(MAX_QUEUED_EVENTS);
    let dialer = MqttDialer { config, will_topic: topics.node_status(), opened };
    (dialer, ConnectionDriver { opened: opened_receiver, events }, event_receiver)
}

impl Dialer for MqttDialer {
    fn brokers(&self) -> usize {
        self.config.brokers.len()
    }

    fn name(&self, broker: usize) -> String {
        broker_name(&self.config.brokers[broker])
    }

    fn dial(&mut self, broker: usize, number: u64) -> Result<Box<dyn Connection>, String> {
        let mut options = client_options(&self.config, broker, &self.config.client_id)
            .map_err(|error| error.to_string())?;
        options.set_inflight(MAX_INFLIGHT);
        options.set_last_will(LastWill::new(&self.will_topic, OFFLINE, QoS::AtLeastOnce, true));
        let (client, mut event_loop) = AsyncClient::new(options, MAX_REQUESTS);
        event_loop.set_network_options(network_options(&self.config));
        let (guard, abandoned) = oneshot::channel();
        let probe = Probe::new(&self.config, broker);
        let sent = self.opened.send(OpenedConnection { number, event_loop, probe, abandoned });
        sent.map_err(|_| "the thread for connections has ended".to_string())?;
        Ok(Box::new(MqttConnection { client, _guard: guard }))
    }
}

struct MqttConnection {
    client: AsyncClient,
    /// Dropping it makes the driver drop the connection.
    _guard: oneshot::Sender<()>,
}

impl Connection for MqttConnection {
    fn publish(&mut self, topic: &str, acknowledged: bool, retained: bool, payload: &[u8]) -> bool {
        let quality = if acknowledged { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        self.client.try_publish(topic, quality, retained, payload).is_ok()
    }

    fn subscribe(&mut self, filters: &[String]) -> bool {
        let filters = filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
        self.client.try_subscribe_many(filters).is_ok()
    }

    fn disconnect(&mut self) -> bool {
        self.client.try_disconnect().is_ok()
    }
}

impl ConnectionDriver {
    /// Drives connections until the dialer is dropped.
    ///
    /// Errors: the runtime cannot be created.
    pub fn run(mut self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            while let Some(opened) = self.opened.recv().await {
                drive(opened, &self.events).await;
            }
        });
        Ok(())
    }
}

/// Drives a connection and forwards its events, until it ends or is abandoned.
async fn drive(opened: OpenedConnection, events: &Sender<(u64, LinkEvent)>) {
    let OpenedConnection { number, mut event_loop, probe, mut abandoned } = opened;
    let mut was_accepted = false;
    loop {
        let next = async {
            let event = event_loop.poll().await;
            let reason = match &event {
                Err(error) if !was_accepted => probe.reason(error).await,
                _ => None,
            };
            (event, reason)
        };
        let (event, reason) = tokio::select! {
            biased;
            // An abandoned connection is dropped at once, even if it waits for the network.
            _ = &mut abandoned => return,
            next = next => next,
        };
        let Some(mut event) = link_event(event) else { continue };
        was_accepted |= matches!(event, LinkEvent::Connected);
        if let (LinkEvent::Failed { why, .. }, Some(reason)) = (&mut event, reason) {
            *why = reason.to_string();
        }
        let is_last = matches!(event, LinkEvent::Failed { .. } | LinkEvent::Disconnected);
        if events.send((number, event)).is_err() || is_last {
            return;
        }
    }
}

/// Translates an event of rumqttc. None if the publisher has no use for it.
fn link_event(event: Result<Event, ConnectionError>) -> Option<LinkEvent> {
    let event = match event {
        Ok(Event::Incoming(Packet::ConnAck(_))) => LinkEvent::Connected,
        Ok(Event::Incoming(Packet::PubAck(ack))) => LinkEvent::Acknowledged(ack.pkid),
        Ok(Event::Incoming(Packet::SubAck(ack))) => {
            let refused = ack.return_codes.contains(&SubscribeReasonCode::Failure);
            LinkEvent::Subscribed(!refused)
        }
        Ok(Event::Incoming(Packet::Publish(publish))) => LinkEvent::Received {
            topic: publish.topic,
            retained: publish.retain,
            payload: publish.payload[..publish.payload.len().min(MAX_RECEIVED_BYTES)].to_vec(),
        },
        Ok(Event::Incoming(Packet::PingResp)) => LinkEvent::Alive,
        // Messages that are not acknowledged have the packet id 0.
        Ok(Event::Outgoing(Outgoing::Publish(id))) if id != 0 => LinkEvent::Sent(id),
        Ok(Event::Outgoing(Outgoing::Disconnect)) => LinkEvent::Disconnected,
        Ok(_) => return None,
        Err(error) => {
            let refused = matches!(error, ConnectionError::ConnectionRefused(_));
            LinkEvent::Failed { why: describe(&error), refused }
        }
    };
    Some(event)
}
